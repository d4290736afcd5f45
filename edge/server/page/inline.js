// Markdown inside one block: text -> a list of nodes (a string, or {tag, attributes, children}). Pure.
//
// A model's answer is read again at each frame, and it may be hostile: every step here takes linear time.

const MOST_OPEN = 20; // marks that wait for their partner: as deep as elements can come to lie in each other
const SAFE_PROTOCOLS = new Set(["http:", "https:", "mailto:"]);
const ENTITIES = { amp: "&", lt: "<", gt: ">", quot: '"', apos: "'", nbsp: "\u00a0" };

const PLAIN = /(?:[^\\`<&*_~![\]\nh]|h(?!ttps?:\/\/))+/y;
const ESCAPED = /\\([!-/:-@[-`{-~])/y;
const BACKTICKS = /`+/y;
const ENTITY = /&(?:(\w{2,6})|#(\d{1,7})|#[xX]([0-9a-fA-F]{1,6}));/y;
const BRACKETED_LINK = /<((?:https?:\/\/|mailto:)[^\s<>]*)>/iy;
const LINE_BREAK = /<br *\/?>/iy;
const BARE_LINK = /https?:\/\/[\w\-.~:/?#@!$&'()*+,;=%]*/y; // ASCII only: Chinese punctuation ends an address
const LINK_TARGET = /\(\s*(?:<([^<>\n]*)>|([^\s()<>]*(?:\([^\s()<>]*\)[^\s()<>]*)*))(?:\s+(?:"[^"]*"|'[^']*'))?\s*\)/y;
const DELIMITERS = /\*+|_+|~+/y;

/** The address that a link may have, or null: only http, https and mailto lead out of the page. */
export function safeLink(target) {
  try {
    const url = new URL(target); // as the browser will read it, not as it looks
    return SAFE_PROTOCOLS.has(url.protocol) ? url.href : null;
  } catch {
    return null;
  }
}

export function inline(text) {
  const tokens = []; // nodes, {delimiter}s and {bracket}s that may find a partner later
  const brackets = []; // indexes into tokens
  const absent = new Set(); // closing marks sought in vain: none is sought twice
  let position = 0;

  const take = (pattern) => {
    pattern.lastIndex = position;
    const match = pattern.exec(text);
    if (match) position = pattern.lastIndex;
    return match;
  };
  /** \( … \), \[ … \]: a formula's source, kept from being read as Markdown. */
  const formula = (mark) => {
    if (!text.startsWith(mark.replace(")", "(").replace("]", "["), position) || absent.has(mark)) return false;
    const end = text.indexOf(mark, position);
    if (end < 0) {
      absent.add(mark);
      return false;
    }
    tokens.push({ tag: "code", children: [text.slice(position, end + 2)] });
    position = end + 2;
    return true;
  };
  const code = (marks) => {
    const end = absent.has(marks) ? -1 : endOfCode(text, position, marks);
    tokens.push(end < 0 ? marks : { tag: "code", children: [codeText(text.slice(position, end))] });
    if (end < 0) absent.add(marks);
    else position = end + marks.length;
  };

  while (position < text.length) {
    const start = position;
    const plain = take(PLAIN);
    if (plain) {
      tokens.push(plain[0]);
      continue;
    }
    switch (text[position]) {
      case "\n":
        position += 1;
        tokens.push({ tag: "br", children: [] });
        break;
      case "\\":
        if (!formula("\\)") && !formula("\\]")) tokens.push(take(ESCAPED)?.[1] ?? "\\");
        break;
      case "`":
        code(take(BACKTICKS)[0]);
        break;
      case "<": {
        const address = take(BRACKETED_LINK);
        if (address) tokens.push(link(address[1], [address[1]]));
        else if (take(LINE_BREAK)) tokens.push({ tag: "br", children: [] });
        else tokens.push("<");
        break;
      }
      case "&":
        tokens.push(character(take(ENTITY)) ?? "&");
        break;
      case "*":
      case "_":
      case "~":
        tokens.push(delimiter(text, start, take(DELIMITERS)[0]));
        break;
      case "!":
      case "[": {
        const image = text.startsWith("![", position);
        if (text[position] === "!" && !image) {
          tokens.push("!");
          break;
        }
        position += image ? 2 : 1;
        open(brackets, tokens.length);
        tokens.push({ bracket: image ? "![" : "[" });
        break;
      }
      case "]":
        position += 1;
        closeBracket(tokens, brackets, take);
        break;
      default: {
        const address = take(BARE_LINK)[0];
        const trimmed = trimAddress(address);
        position = start + trimmed.length;
        tokens.push(link(trimmed, [trimmed]));
      }
    }
    if (position === start) position += 1; // the character was pushed as it is
  }
  return paired(tokens);
}

/** Notes that the mark at `index` waits; where too many do, the first of them gives up. */
function open(stack, index) {
  stack.push(index);
  if (stack.length > MOST_OPEN) stack.shift();
}

/** Where a run of just as many backticks begins, or -1. */
function endOfCode(text, from, marks) {
  for (let at = text.indexOf(marks, from); at >= 0; at = text.indexOf(marks, at)) {
    const start = at;
    while (text[at] === "`") at += 1;
    if (at - start === marks.length) return start;
  }
  return -1;
}

function codeText(source) {
  const text = source.replace(/\n/g, " ");
  const padded = text.startsWith(" ") && text.endsWith(" ") && text.trim() !== "";
  return padded ? text.slice(1, -1) : text;
}

function character(entity) {
  if (!entity) return null;
  if (entity[1]) return Object.hasOwn(ENTITIES, entity[1]) ? ENTITIES[entity[1]] : entity[0];
  const code = entity[2] ? Number(entity[2]) : parseInt(entity[3], 16);
  return code > 0 && code <= 0x10ffff ? String.fromCodePoint(code) : "\ufffd";
}

function link(target, children) {
  const href = safeLink(target);
  if (!href) return { tag: "span", children };
  return { tag: "a", attributes: { href, rel: "noopener noreferrer", target: "_blank" }, children };
}

/** What is likely the sentence's and not the address's goes back: the full stop, the bracket around it, bold's end. */
function trimAddress(address) {
  let end = address.length;
  while (".,;:!?'*_~".includes(address[end - 1])) end -= 1;
  const closes = address[end - 1] === ")" && !address.slice(0, end).includes("(");
  return address.slice(0, closes ? end - 1 : end);
}

function closeBracket(tokens, brackets, take) {
  const opening = brackets.pop();
  const target = opening === undefined ? null : take(LINK_TARGET);
  if (!target) {
    tokens.push("]");
    return;
  }
  const image = tokens[opening].bracket === "![";
  const children = paired(tokens.splice(opening).slice(1));
  const address = (target[1] ?? target[2]).replace(/\\([!-/:-@[-`{-~])/g, "$1").replace(/&amp;/g, "&");
  if (image) {
    tokens.push({ tag: "span", attributes: { class: "image" }, children }); // nothing is fetched: its description
  } else {
    tokens.push(link(address, unlinked(children)));
    brackets.length = 0; // nor is this one in another
  }
}

/** A link holds no other: an address in its text is text there. */
function unlinked(nodes) {
  return nodes.flatMap((node) => {
    if (node.tag === "a") return node.children;
    return node.children ? [{ ...node, children: unlinked(node.children) }] : [node];
  });
}

/** Unlike CommonMark, punctuation beside a mark does not matter: "**注意：**这" is bold, which Chinese needs. */
function delimiter(text, start, run) {
  const before = text[start - 1] ?? " ";
  const after = text[start + run.length] ?? " ";
  const inWord = (neighbour) => run[0] === "_" && /[\p{L}\p{N}]/u.test(neighbour);
  return {
    delimiter: run[0],
    count: run.length,
    opens: !/\s/.test(after) && !inWord(before),
    closes: !/\s/.test(before) && !inWord(after),
  };
}

/** Pairs the delimiters: a closing run takes the nearest opening one of its length, else a part of a longer one. */
function paired(tokens) {
  const out = [];
  const openings = new Map(); // "*2" -> indexes into out of "**" that wait, the nearest last
  const waiting = (mark, count) => {
    if (!openings.has(mark + count)) openings.set(mark + count, []);
    return openings.get(mark + count);
  };
  const nearest = (mark, counts) => {
    const last = (stack) => stack.at(-1) ?? -1;
    return counts.map((count) => waiting(mark, count)).sort((one, other) => last(other) - last(one))[0];
  };

  const wrap = (token, stack, width) => {
    const index = stack.pop();
    const opening = out[index];
    const children = merged(out.splice(index + 1));
    for (const other of openings.values()) while (other.at(-1) > index) other.pop();
    opening.count -= width;
    token.count -= width;
    if (opening.count > 0) waiting(opening.delimiter, opening.count).push(index);
    else out.pop();
    const tags = token.delimiter === "~" ? ["del"] : [[], ["em"], ["strong"], ["em", "strong"]][width];
    out.push(tags.reduce((inner, tag) => [{ tag, children: inner }], children)[0]);
  };

  for (const token of tokens) {
    if (!token.delimiter) {
      out.push(token.bracket ?? token);
      continue;
    }
    const usable = token.delimiter === "~" ? token.count === 2 : token.count <= 3;
    while (usable && token.closes && token.count > 0) {
      const exact = waiting(token.delimiter, token.count);
      const stack = exact.length > 0 ? exact : nearest(token.delimiter, token.count === 3 ? [1, 2] : [3]);
      if (stack.length === 0) break;
      wrap(token, stack, Math.min(token.count, out[stack.at(-1)].count));
    }
    if (token.count === 0) continue;
    if (usable && token.opens) open(waiting(token.delimiter, token.count), out.length);
    out.push(token);
  }
  return merged(out);
}

/** Delimiters without a partner become text, and neighbouring texts one. */
function merged(tokens) {
  const nodes = [];
  for (const token of tokens) {
    const node = token.delimiter ? token.delimiter.repeat(token.count) : token;
    if (typeof node === "string" && typeof nodes.at(-1) === "string") nodes.push(nodes.pop() + node);
    else nodes.push(node);
  }
  return nodes;
}
