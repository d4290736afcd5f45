// Function calls, streamed and not.
import { zodFunction } from "openai/helpers/zod";
import { z } from "zod";

import { all, question, refusal } from "./common.mjs";

const Where = z.object({ place: z.enum(["office", "lift", "exit"]), loud: z.boolean() });
const locate = {
  type: "function",
  function: {
    name: "locate",
    description: "Tells where something is",
    parameters: {
      type: "object",
      properties: { place: { type: "string", enum: ["office", "lift", "exit"] }, loud: { type: "boolean" } },
      required: ["place", "loud"],
      additionalProperties: false,
    },
  },
};
const now = { type: "function", function: { name: "now", description: "The time" } };
const base = { model: "any", messages: question, temperature: 0, max_tokens: 600, tools: [locate, now] };
const named = { type: "function", function: { name: "locate" } };
const timeOnly = { type: "function", function: { name: "now" } };

const whole = (more) => (client) => client.chat.completions.create({ ...base, ...more });
const streamed = (more) => async (client) =>
  all(await client.chat.completions.create({ ...base, ...more, stream: true }));
const one = { tool_choice: "required", parallel_tool_calls: false };

export const cases = {
  auto: whole({ tool_choice: "auto", max_tokens: 24 }),
  autoStreamed: streamed({ tool_choice: "auto", max_tokens: 24 }),
  none: whole({ tool_choice: "none", max_tokens: 24 }),
  required: whole(one),
  requiredStreamed: streamed(one),
  named: whole({ tool_choice: named, parallel_tool_calls: false }),
  namedStreamed: streamed({ tool_choice: named, parallel_tool_calls: false }),
  noArguments: whole({ tool_choice: timeOnly, parallel_tool_calls: false }),
  noArgumentsStreamed: streamed({ tool_choice: timeOnly, parallel_tool_calls: false }),
  cut: whole({ ...one, max_tokens: 3 }),
  cutStreamed: streamed({ ...one, max_tokens: 3 }),

  parsed: async (client) => {
    const tools = [zodFunction({ name: "locate", parameters: Where })];
    const answer = await client.chat.completions.parse({ ...base, ...one, tools });
    return answer.choices[0].message.tool_calls.map((call) => call.function.parsed_arguments);
  },

  helper: async (client) => {
    const runner = client.chat.completions.stream({ ...base, ...one, tools: [locate] });
    const done = [];
    runner.on("tool_calls.function.arguments.done", (call) => done.push(call));
    return { final: await runner.finalChatCompletion(), done };
  },

  run: async (client) => {
    const calls = [];
    const work = (given) => {
      calls.push(given);
      return "on the ground floor";
    };
    const tool = { ...locate, function: { ...locate.function, function: work, parse: JSON.parse } };
    const runner = client.chat.completions.runTools({ ...base, ...one, tools: [tool] }, { maxChatCompletions: 2 });
    await runner.done();
    return { calls, messages: runner.messages };
  },

  history: (client) =>
    client.chat.completions.create({
      ...base,
      max_tokens: 24,
      tool_choice: "none",
      messages: [
        ...question,
        {
          role: "assistant",
          content: null,
          tool_calls: [{ id: "any id", type: "function", function: { name: "locate", arguments: '{"place":"office"}' } }],
        },
        { role: "tool", tool_call_id: "any id", content: "on the ground floor" },
      ],
    }),

  refusals: async (client) => {
    const ask = (more) => refusal(client.chat.completions.create({ ...base, ...more }));
    return {
      unknownName: await ask({ tool_choice: { type: "function", function: { name: "fly" } } }),
      requiredOfNone: await ask({ tools: [], tool_choice: "required" }),
      twice: await ask({ tools: [now, now] }),
      schema: await ask({
        ...one,
        tools: [{ type: "function", function: { name: "f", parameters: { type: "object", properties: { a: { type: "no" } } } } }],
      }),
    };
  },
};
