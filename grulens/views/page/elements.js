/* An element of a page with its class, its text, which is never markup, and its attributes. */
"use strict";
function grulensMade(tag, className = "", text = null, set = {}) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== null) element.textContent = text;
  for (const [key, value] of Object.entries(set)) element.setAttribute(key, value);
  return element;
}
