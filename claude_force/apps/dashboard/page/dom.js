/* The one way onto the page. What is shown is a function of what is known: views make elements with `el` and `svg`, and
   `render` turns those that are there into those, so that focus, selection and scrolling stay where they are.
   Names and answers are other people's text: here they become text nodes and attributes, and never markup. */

const SVG = 'http://www.w3.org/2000/svg';

/** An element. Of its children, strings are text, null is nothing; attributes that are false or null are not there. */
export function el(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

/** Let the children of `place` be like those. Elements with a `data-key` are known by it, all others by their place. */
export function render(place, ...wanted) {
  const fragment = document.createDocumentFragment();
  fragment.append(...wanted.flat().filter((node) => node != null));
  patch(place, [...fragment.childNodes]);
}

const shown = new WeakMap();

/** Whether `place` shows just this already: hundreds of steps need not be made anew where none has changed. */
export function isShown(place, ...what) {
  const said = JSON.stringify(what);
  const isSame = shown.get(place) === said;
  shown.set(place, said);
  return isSame;
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith('--'))
      element.style.setProperty(name, value); // the policy forbids the attribute, not this
    else if (value != null && value !== false) element.setAttribute(name, value === true ? '' : value);
  }
  element.append(...children.flat().filter((child) => child != null));
  return element;
}

function patch(parent, wanted) {
  const keyed = new Map();
  for (const node of parent.childNodes) if (node.dataset?.key) keyed.set(node.dataset.key, node);
  let at = parent.firstChild;
  for (const next of wanted) {
    const key = next.dataset?.key;
    const now = key ? keyed.get(key) : at;
    if (!now || now.nodeName !== next.nodeName || now.dataset?.key !== key) {
      parent.insertBefore(next, at);
    } else {
      if (now === at) at = at.nextSibling;
      else parent.insertBefore(now, at);
      become(now, next);
    }
  }
  while (at) {
    const gone = at;
    at = at.nextSibling;
    gone.remove();
  }
}

function become(now, next) {
  if (now.nodeType === Node.TEXT_NODE) {
    if (now.data !== next.data) now.data = next.data;
    return;
  }
  for (const { name } of [...now.attributes])
    if (name !== 'style' && !next.hasAttribute(name)) now.removeAttribute(name);
  for (const { name, value } of next.attributes) {
    if (name !== 'style' && now.getAttribute(name) !== value) now.setAttribute(name, value);
  }
  if (now.style.cssText !== next.style.cssText) now.style.cssText = next.style.cssText;
  patch(now, [...next.childNodes]);
}
