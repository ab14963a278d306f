/* The words of the page in its language: as Python says them, else as they are written. What meets
   Chinese has a space where it is none itself, as `_filled` of words.py has it. */
"use strict";
function say(text, values = {}) {
  const said = (say.words[text] ?? text).replace(
    /\{(\w+)\}/g, (place, name) => `\ue000${values[name] ?? place}\ue000`, // its ends are marked
  );
  return said
    .replace(/([\u4e00-\u9fff])\ue000+(?=[0-9A-Za-z%−])/g, "$1 ")
    .replace(/([0-9A-Za-z%−])\ue000+(?=[\u4e00-\u9fff])/g, "$1 ")
    .replace(/([\u4e00-\u9fff])(?:\ue000 | \ue000)(?=[\u4e00-\u9fff])/g, "$1")
    .replaceAll("\ue000", "");
}
say.words = {};
