/* The words of the page in its language: as Python says them, else as they are written. */
"use strict";
function say(text, values = {}) {
  return (say.words[text] ?? text).replace(/\{(\w+)\}/g, (place, name) => String(values[name] ?? place));
}
say.words = {};
