// Trees of nodes (a string, or {tag, attributes, children}) -> elements. The only maker of elements from model output.

const TEXT_TAGS = ["a", "br", "code", "del", "em", "span", "strong"];
const BLOCK_TAGS = ["blockquote", "div", "figure", "h3", "h4", "h5", "h6", "hr", "li", "ol", "p", "pre", "ul"];
const TABLE_TAGS = ["table", "tbody", "td", "th", "thead", "tr"];
const TAGS = new Set([...TEXT_TAGS, ...BLOCK_TAGS, ...TABLE_TAGS]);
const ATTRIBUTES = new Set(["class", "data-language", "dir", "href", "rel", "start", "target"]);

export function build(node) {
  if (typeof node === "string") return document.createTextNode(node);
  if (!TAGS.has(node.tag)) throw new Error(`no such element here: ${node.tag}`);
  const element = document.createElement(node.tag);
  for (const [name, value] of Object.entries(node.attributes ?? {})) {
    if (!ATTRIBUTES.has(name)) throw new Error(`no such attribute here: ${name}`);
    element.setAttribute(name, value);
  }
  for (const child of node.children) element.appendChild(build(child));
  return element;
}

/** Makes the children of `parent`, built from `before`, those of `after`; what is equal is left as it is. */
export function patch(parent, before, after) {
  after.forEach((node, index) => {
    const old = before[index];
    const child = parent.childNodes[index] ?? null;
    if (old === node) return;
    if (old === undefined) parent.insertBefore(build(node), child);
    else if (typeof old === "string" && typeof node === "string") changeText(child, old, node);
    else if (!sameElement(old, node)) child.replaceWith(build(node));
    else patch(child, old.children, node.children);
  });
  for (let index = before.length - 1; index >= after.length; index -= 1) parent.childNodes[index].remove();
}

function changeText(child, old, text) {
  if (text.startsWith(old)) child.appendData(text.slice(old.length)); // keeps what the reader has selected
  else child.data = text;
}

function sameElement(one, other) {
  const attributes = (node) => JSON.stringify(node.attributes ?? {});
  return one.tag !== undefined && one.tag === other.tag && attributes(one) === attributes(other);
}

/** An element of the page's own, such as h("button", {onclick}, "Copy"); what it is, no model has a say in. */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}
