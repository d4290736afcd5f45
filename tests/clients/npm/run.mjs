// Asks a server what a module's cases want to know: node run.mjs MODULE URL [KEY]. Prints one JSON object: for each case
// what it gave, or {failed}.
import OpenAI from "openai";

const [module, url, apiKey = "none"] = process.argv.slice(2);
const { cases } = await import(`./${module}`);
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey, maxRetries: 0, timeout: 60_000 });
const results = {};
for (const [name, ask] of Object.entries(cases)) {
  try {
    results[name] = await ask(client);
  } catch (error) {
    results[name] = { failed: String(error?.stack ?? error) };
  }
}
console.log(JSON.stringify(results));
