// Everything but function calls.
import { readFileSync } from "node:fs";

import { zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";

import { all, question, refusal } from "./common.mjs";

const Place = z.object({ floor: z.enum(["ground", "first", "second"]), open: z.boolean() });
const base = { model: "gpt-3.5-turbo", messages: question, temperature: 0, max_tokens: 24 };
const text = (answer) => answer.choices[0].message.content;

export const cases = {
  version: async () => JSON.parse(readFileSync("node_modules/openai/package.json", "utf8")).version,

  chat: (client) => client.chat.completions.create(base),

  stream: async (client) => all(await client.chat.completions.create({ ...base, stream: true })),

  streamWithUsage: async (client) =>
    all(await client.chat.completions.create({ ...base, stream: true, stream_options: { include_usage: true } })),

  streamHelper: async (client) => {
    const runner = client.chat.completions.stream({ ...base, stream_options: { include_usage: true } });
    let deltas = "";
    runner.on("content", (delta) => (deltas += delta));
    const final = await runner.finalChatCompletion();
    return { deltas, final, usage: await runner.totalUsage() };
  },

  roles: (client) =>
    client.chat.completions.create({
      ...base,
      messages: [
        { role: "developer", content: "Be short." },
        { role: "user", content: [{ type: "text", text: "Hello" }] },
        { role: "assistant", content: "Hi", refusal: null },
        ...question,
      ],
      user: "someone",
      store: false,
      metadata: { a: "b" },
    }),

  several: (client) => client.chat.completions.create({ ...base, n: 3, temperature: 1.5, seed: 7 }),

  severalStreamed: async (client) =>
    all(await client.chat.completions.create({ ...base, n: 2, temperature: 1.5, seed: 7, stream: true })),

  seed: async (client) => {
    const texts = [];
    for (const seed of [11, 11, 12, 13, 14, 15])
      texts.push(text(await client.chat.completions.create({ ...base, temperature: 2, seed })));
    return texts;
  },

  stop: async (client) => {
    const whole = text(await client.chat.completions.create(base));
    const stop = whole.slice(6, 9);
    const cut = await client.chat.completions.create({ ...base, stop: [stop, ""] });
    const streamed = await all(await client.chat.completions.create({ ...base, stop, stream: true }));
    return { whole, stop, cut, streamed: streamed.map((chunk) => chunk.choices[0].delta.content ?? "").join("") };
  },

  logprobs: (client) => client.chat.completions.create({ ...base, logprobs: true, top_logprobs: 3 }),

  logprobsStreamed: async (client) =>
    all(await client.chat.completions.create({ ...base, logprobs: true, top_logprobs: 2, stream: true })),

  structured: async (client) => {
    const format = zodResponseFormat(Place, "place");
    const answer = await client.chat.completions.parse({ ...base, max_tokens: 600, response_format: format });
    return { parsed: answer.choices[0].message.parsed, reason: answer.choices[0].finish_reason };
  },

  structuredStreamed: async (client) => {
    const format = zodResponseFormat(Place, "place");
    const runner = client.chat.completions.stream({ ...base, max_tokens: 600, response_format: format });
    const final = await runner.finalChatCompletion();
    return { parsed: final.choices[0].message.parsed, reason: final.choices[0].finish_reason };
  },

  embeddings: async (client) => {
    const input = ["The ticket office", "Die Kasse"];
    const usual = await client.embeddings.create({ model: "any", input }); // base64 on the wire
    const floats = await client.embeddings.create({ model: "any", input, encoding_format: "float" });
    return { usual, floats };
  },

  models: async (client) => {
    const listed = await all(client.models.list());
    return { listed, one: await client.models.retrieve(listed[0].id) };
  },

  completion: (client) =>
    client.completions.create({ model: "any", prompt: "The ticket office", max_tokens: 8, temperature: 0, echo: true }),

  completionStreamed: async (client) => {
    const body = { model: "any", prompt: ["The ticket", "The lift"], max_tokens: 8, temperature: 0, stream: true };
    return all(await client.completions.create(body));
  },

  abort: async (client) => {
    const stream = await client.chat.completions.create({ ...base, stream: true });
    for await (const chunk of stream) {
      stream.controller.abort();
      return { first: chunk, after: await client.chat.completions.create(base) };
    }
  },

  refusals: async (client) => {
    const ask = (more) => refusal(client.chat.completions.create({ ...base, ...more }));
    const image = { type: "image_url", image_url: { url: "data:image/png;base64,AAAA" } };
    return {
      tooLong: await ask({ messages: [{ role: "user", content: "ticket office ".repeat(3000) }] }),
      tooLongStreamed: await ask({ messages: [{ role: "user", content: "ticket office ".repeat(3000) }], stream: true }),
      unknown: await ask({ no_such_thing: 1 }),
      wrongType: await ask({ temperature: "hot" }),
      outOfRange: await ask({ top_p: 2 }),
      topWithoutLogprobs: await ask({ top_logprobs: 2 }),
      audio: await ask({ audio: { voice: "alloy", format: "wav" } }),
      image: await ask({ messages: [{ role: "user", content: [image] }] }),
      schema: await ask({ response_format: { type: "json_schema", json_schema: { name: "a", schema: { type: "no" } } } }),
      noMessages: await ask({ messages: [] }),
      otherModel: await refusal(client.models.retrieve("no-such-model")),
      tokens: await refusal(client.embeddings.create({ model: "any", input: [[100257, 9906, 1917]] })),
      responses: await refusal(client.responses.create({ model: "any", input: "hello" })),
    };
  },
};
