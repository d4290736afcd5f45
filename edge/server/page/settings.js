// The settings that a person may change: their form, and what of them goes into a request.

const KEY = "edge.settings";
const NUMBERS = { temperature: [0, 2], top_p: [0, 1], max_tokens: [1, 1e6] };
const CHOICES = { thinking: ["on", "off"], theme: ["light", "dark"], language: ["en", "zh"] };

/** What the browser kept, whatever it is, made settings; an empty value means the model's or the system's own. */
export function readOptions(store) {
  const kept = store.read(KEY) ?? {};
  const options = { system: typeof kept.system === "string" ? kept.system : "" };
  for (const [name, [least, most]] of Object.entries(NUMBERS)) {
    const fits = typeof kept[name] === "number" && kept[name] >= least && kept[name] <= most;
    options[name] = fits ? kept[name] : null;
  }
  for (const [name, values] of Object.entries(CHOICES)) options[name] = values.includes(kept[name]) ? kept[name] : "";
  return options;
}

/** The fields of a request; what is not set is not sent. */
export function requestFields(options, server) {
  const set = Object.keys(NUMBERS).filter((name) => options[name] !== null);
  const fields = { model: server.model, ...Object.fromEntries(set.map((name) => [name, options[name]])) };
  if (server.thinks && options.thinking) fields.chat_template_kwargs = { enable_thinking: options.thinking === "on" };
  return fields;
}

/** The dialog of index.html: filled when it opens, read when it is saved. */
export function wireSettings(dialog, opener, store, onChange) {
  const form = dialog.querySelector("form");
  opener.addEventListener("click", () => {
    for (const [name, value] of Object.entries(readOptions(store))) form.elements[name].value = value ?? "";
    dialog.showModal();
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    store.write(KEY, optionsOf(form));
    dialog.close();
    onChange(readOptions(store));
  });
  dialog.querySelector(".cancel").addEventListener("click", () => dialog.close());
}

function optionsOf(form) {
  const value = (name) => form.elements[name].value.trim();
  const numbers = Object.keys(NUMBERS).map((name) => [name, value(name) === "" ? null : Number(value(name))]);
  const texts = ["system", ...Object.keys(CHOICES)].map((name) => [name, value(name)]);
  return Object.fromEntries([...numbers, ...texts]);
}
