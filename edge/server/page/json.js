// JSON made readable. Its numbers and strings stay as they were written: parsing would round a long number.

const TOKEN = /"(?:\\.|[^"\\])*"|\{\s*\}|\[\s*\]|[^\s"]|\s+/g;
const DEEPEST = 40; // deeper nesting is not indented further: it would grow with the square

/** The text with line breaks and indentation, or null where it is not JSON. */
export function prettyJson(text) {
  try {
    JSON.parse(text);
  } catch {
    return null;
  }
  let depth = 0;
  const newLine = () => `\n${"  ".repeat(Math.min(depth, DEEPEST))}`;
  return text.trim().replace(TOKEN, (token) => {
    if (token.trim() === "") return "";
    if (token === ":") return ": ";
    if (token === ",") return `,${newLine()}`;
    if (token === "{" || token === "[") {
      depth += 1;
      return token + newLine();
    }
    if (token === "}" || token === "]") {
      depth -= 1;
      return newLine() + token;
    }
    return token.length > 1 && !token.startsWith('"') ? token.replace(/\s/g, "") : token;
  });
}
