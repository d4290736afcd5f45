// Markdown blocks: lines -> a list of {node, line}, and the view that follows a growing text. Pure but for the view.
//
// Not CommonMark in full: no indented code and no underlined headings, which models do not write on purpose;
// HTML is text; a line break in a paragraph is one on the screen.

import { patch } from "./dom.js";
import { inline } from "./inline.js";

const DEEPEST = 16; // quotes and lists inside each other; a hostile text would nest thousands
const HEADING = /^ {0,3}(#{1,6})(?:[ \t]+|$)/;
const RULE = /^ {0,3}([-*_])(?:[ \t]*\1){2,}[ \t]*$/;
const QUOTE = /^ {0,3}> ?/;
const FENCE = /^[ \t]*(`{3,}|~{3,})([^`]*)$/;
const ITEM = /^[ \t]*(?:([-*+])|(\d{1,9})([.)]))(?:[ \t]+|$)/;
const TASK = /^\[([ xX])\] /;

/** Shows a text as Markdown in an element, and on each call only what changed since the last one. */
export function markdownView(element) {
  let shown = "";
  let nodes = [];
  let settled = { count: 0, offset: 0 }; // blocks that more text at the end cannot change

  return (text) => {
    const kept = text.startsWith(shown) ? settled : { count: 0, offset: 0 };
    const lines = text.slice(kept.offset).split("\n");
    const found = blocks(lines.map((line) => line.replace(/\r$/, "")));
    const next = [...nodes.slice(0, kept.count), ...found.map(({ node }) => node)];
    patch(element, nodes, next);

    // The last line may yet turn out to belong to the block before it: two blocks stay open.
    const open = Math.max(0, found.length - 2);
    const before = lines.slice(0, found[open]?.line ?? 0);
    const length = before.reduce((sum, line) => sum + line.length + 1, 0);
    settled = { count: kept.count + open, offset: kept.offset + length };
    shown = text;
    nodes = next;
  };
}

export function blocks(lines, depth = 0) {
  const found = [];
  let index = 0;
  while (index < lines.length) {
    if (lines[index].trim() === "") {
      index += 1;
      continue;
    }
    const { node, next } = block(lines, index, depth);
    found.push({ node, line: index });
    index = next;
  }
  return found;
}

function block(lines, index, depth) {
  const line = lines[index];
  if (depth > DEEPEST) return paragraph(lines, index);
  if (FENCE.test(line)) return fence(lines, index);
  if (HEADING.test(line)) return heading(line, index);
  if (RULE.test(line)) return { node: { tag: "hr", children: [] }, next: index + 1 };
  if (QUOTE.test(line)) return quote(lines, index, depth);
  if (ITEM.test(line)) return list(lines, index, depth);
  if (isTable(lines, index)) return table(lines, index);
  return paragraph(lines, index);
}

const nodesOf = (lines, depth) => blocks(lines, depth).map(({ node }) => node);

/** Whether this line ends a paragraph. A number does only where it starts a list: "in\n1986. Then" is a sentence. */
function interrupts(lines, index) {
  const line = lines[index];
  const item = ITEM.exec(line);
  const starts = item && line.length > item[0].length && (item[1] || item[2] === "1");
  return starts || [FENCE, HEADING, RULE, QUOTE].some((pattern) => pattern.test(line)) || isTable(lines, index);
}

function paragraph(lines, index) {
  let next = index + 1;
  while (next < lines.length && lines[next].trim() !== "" && !interrupts(lines, next)) next += 1;
  const text = lines.slice(index, next).map((line) => line.trim()).join("\n");
  return { node: { tag: "p", children: inline(text) }, next };
}

/** The page has its own h1 and h2, so that an outline by headings stays one: "#" is h3. */
function heading(line, index) {
  const [opening, marks] = HEADING.exec(line);
  const text = line.slice(opening.length).trim().replace(/(?:^|[ \t])#+$/, "").trimEnd();
  return { node: { tag: `h${Math.min(6, marks.length + 2)}`, children: inline(text) }, next: index + 1 };
}

function fence(lines, index) {
  const [, marks, info] = FENCE.exec(lines[index]);
  const closes = (line) => line.trim().length >= marks.length && line.trim() === marks[0].repeat(line.trim().length);
  let end = index + 1;
  while (end < lines.length && !closes(lines[end])) end += 1;
  const width = indentOf(lines[index]);
  const code = lines.slice(index + 1, end).map((line) => dedent(line, width)).join("\n");
  return { node: codeBlock(code, info.trim().split(/\s/)[0]), next: end + 1 };
}

export function codeBlock(code, language) {
  const pre = { tag: "pre", children: [{ tag: "code", children: [code] }] };
  return { tag: "figure", attributes: { class: "code", "data-language": language, dir: "ltr" }, children: [pre] };
}

function quote(lines, index, depth) {
  const inside = [];
  let next = index;
  while (next < lines.length) {
    const marked = QUOTE.test(lines[next]);
    const inParagraph = inside.length > 0 && inside.at(-1).trim() !== "" && lines[next].trim() !== "";
    if (!marked && !(inParagraph && !interrupts(lines, next))) break;
    inside.push(lines[next].replace(QUOTE, ""));
    next += 1;
  }
  return { node: { tag: "blockquote", children: nodesOf(inside, depth + 1) }, next };
}

/** Models indent by two, three or four whatever the marker: two columns more than the list's own are inside an item. */
function list(lines, index, depth) {
  const kindOf = (item) => item[1] ?? item[3];
  const first = ITEM.exec(lines[index]);
  const inner = indentOf(lines[index]) + 2;
  const items = [];
  let next = index;
  let fenced = false;
  let loose = false;
  while (next < lines.length) {
    const line = lines[next];
    const item = ITEM.exec(line);
    const afterBlank = next > index && lines[next - 1].trim() === "";
    if (line.trim() === "") {
      items.at(-1).push("");
    } else if (next > index && indentOf(line) >= inner) {
      items.at(-1).push(line);
      loose ||= afterBlank && !fenced && !item;
    } else if (item && kindOf(item) === kindOf(first) && !RULE.test(line)) {
      items.push([line]);
      loose ||= afterBlank;
      fenced = false;
    } else if (afterBlank || fenced || interrupts(lines, next)) {
      break;
    } else {
      items.at(-1).push(line);
    }
    if (FENCE.test(line.replace(ITEM, ""))) fenced = !fenced;
    next += 1;
  }
  const children = items.map((own) => listItem(own, inner, loose, depth));
  if (first[1]) return { node: { tag: "ul", children }, next };
  const start = Number(first[2]);
  return { node: { tag: "ol", attributes: start === 1 ? {} : { start: String(start) }, children }, next };
}

function listItem([first, ...rest], inner, loose, depth) {
  const marker = ITEM.exec(first)[0];
  const continued = rest.find((line) => line.trim() !== "" && indentOf(line) >= inner);
  const own = indentOf(marker) + marker.trim().length + 1;
  const width = continued ? Math.min(own, indentOf(continued)) : own;
  const content = first.slice(marker.length).replace(TASK, (_, done) => (done === " " ? "☐ " : "☑ "));
  const nodes = nodesOf([content, ...rest.map((line) => dedent(line, width))], depth + 1);
  const children = loose ? nodes : nodes.flatMap((node) => (node.tag === "p" ? node.children : [node]));
  return { tag: "li", children };
}

/** The cells of a table's row; an escaped bar is a bar. */
function cells(line) {
  const row = line.trim().replace(/^\|/, "");
  const found = row.match(/(?:\\[^]|[^\\|]|\\$)+|\|/g) ?? [];
  const texts = [""];
  for (const piece of found) {
    if (piece === "|") texts.push("");
    else texts[texts.length - 1] += piece.replace(/\\\|/g, "|");
  }
  if (texts.at(-1).trim() === "" && texts.length > 1) texts.pop();
  return texts.map((text) => text.trim());
}

function isTable(lines, index) {
  const below = lines[index + 1];
  if (!lines[index].includes("|") || !below?.includes("-")) return false;
  if (!/^[\s|:-]+$/.test(below)) return false;
  const marks = cells(below);
  return marks.every((mark) => /^:?-+:?$/.test(mark)) && marks.length === cells(lines[index]).length;
}

function table(lines, index) {
  const sides = cells(lines[index + 1]).map(sideOf);
  let next = index + 2;
  while (next < lines.length && lines[next].trim() !== "" && !interrupts(lines, next)) next += 1;
  const row = (line, tag) => {
    const texts = cells(line);
    const children = sides.map((side, column) => {
      const attributes = side ? { class: side } : {};
      return { tag, attributes, children: inline(texts[column] ?? "") };
    });
    return { tag: "tr", children };
  };
  const head = { tag: "thead", children: [row(lines[index], "th")] };
  const body = { tag: "tbody", children: lines.slice(index + 2, next).map((line) => row(line, "td")) };
  const whole = { tag: "table", children: [head, body] };
  return { node: { tag: "div", attributes: { class: "scroll" }, children: [whole] }, next };
}

function sideOf(mark) {
  if (mark.endsWith(":")) return mark.startsWith(":") ? "center" : "end";
  return "";
}

function indentOf(line) {
  let column = 0;
  for (const character of line) {
    if (character === "\t") column += 4 - (column % 4);
    else if (character === " ") column += 1;
    else break;
  }
  return column;
}

/** Without its first `width` columns, as far as they are blank. */
function dedent(line, width) {
  let column = 0;
  let at = 0;
  while (column < width && (line[at] === " " || line[at] === "\t")) {
    column += line[at] === "\t" ? 4 - (column % 4) : 1;
    at += 1;
  }
  return " ".repeat(Math.max(0, column - width)) + line.slice(at);
}
