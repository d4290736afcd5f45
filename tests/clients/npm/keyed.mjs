// A server that wants a key, and has one slot and no queue.
import OpenAI from "openai";

import { all, question, refusal } from "./common.mjs";

const base = { model: "any", messages: question, temperature: 0, max_tokens: 16 };

export const cases = {
  right: (client) => client.chat.completions.create(base),

  wrong: (client) => refusal(client.withOptions({ apiKey: "sk-wrong" }).chat.completions.create(base)),

  none: (client) => refusal(client.chat.completions.create(base, { headers: { Authorization: null } })),

  busy: async (client) => {
    const long = { model: "any", prompt: "The ticket office", max_tokens: 1500, ignore_eos: true, stream: true };
    const stream = await client.completions.create(long);
    const refused = await refusal(client.chat.completions.create(base));
    stream.controller.abort();
    return refused;
  },

  // What programs rely on: the client waits and asks again.
  retried: async (client) => {
    const long = { model: "any", prompt: "The ticket office", max_tokens: 200, ignore_eos: true, stream: true };
    const patient = new OpenAI({ baseURL: client.baseURL, apiKey: client.apiKey, maxRetries: 8 });
    const reading = client.completions.create(long).then(all);
    const answer = await patient.chat.completions.create(base);
    return { chunks: (await reading).length, answer };
  },
};
