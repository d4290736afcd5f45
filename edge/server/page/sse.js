// A body of server-sent events -> {data} and {comment} objects, wherever the network cut it. Pure but for the reading.

/** Lines of a stream of bytes; a character or a CR LF may come in pieces. */
async function* lines(body) {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      rest += done ? decoder.decode() : decoder.decode(value, { stream: true });
      const open = !done && rest.endsWith("\r"); // perhaps half of a CR LF
      const found = (open ? rest.slice(0, -1) : rest).split(/\r\n|\n|\r/);
      rest = found.pop() + (open ? "\r" : "");
      yield* found;
      if (done) return;
    }
  } finally {
    reader.cancel().catch(() => {}); // closes the connection where the reader of this generator gives up
  }
}

/** An event without the blank line at its end is a cut one, and is not handed out. */
export async function* serverEvents(body) {
  let data = [];
  for await (const line of lines(body)) {
    if (line === "") {
      if (data.length > 0) yield { data: data.join("\n") };
      data = [];
    } else if (line.startsWith(":")) {
      yield { comment: line.slice(1).trim() };
    } else if (line.startsWith("data:")) {
      data.push(line.slice(5).replace(/^ /, ""));
    }
  }
}
