// The server's state -> rows of [label, value], by card. Pure but for the chosen language.

import { word } from "./words.js";

export function rowsOf(told) {
  return {
    server: serverRows(told),
    slots: slotRows(told),
    answers: answerRows(told.answers),
    machine: machineRows(told),
    errors: errorRows(told),
    versions: Object.entries(told.versions),
  };
}

function serverRows({ model, uptime, start, kiosk }) {
  const rows = [
    [word("status"), word(model.status)],
    [word("model"), model.name],
    [word("level"), known(model.level || null, (level) => level)],
    [word("uptime"), duration(uptime)],
  ];
  if (start) rows.push([word("started"), word(start)]);
  if (kiosk) rows.push([word("installed"), kiosk.slot]);
  return rows;
}

function slotRows({ slots, queue }) {
  const states = slots.map(({ state, tokens }, index) => {
    return [word("slot", { number: index + 1 }), word("slotTokens", { state: word(state), tokens })];
  });
  return [[word("queue"), word("queueOf", queue)], ...states];
}

function answerRows({ count, tokens_per_second: speed, first_token: first, longest_first_token: longest }) {
  return [
    [word("counted"), word("countedOf", { count })],
    [word("speed"), known(speed, () => word("speedOf", { speed: speed.toFixed(1) }))],
    [word("firstToken"), known(first, seconds)],
    [word("longest"), known(longest, seconds)],
  ];
}

function machineRows({ machine, disk }) {
  const { memory, limit, peak, available, temperature, clock } = machine;
  return [
    [word("memory"), word("memoryOf", { used: bytes(memory), limit: bytes(limit) })],
    [word("peak"), bytes(peak)],
    [word("available"), bytes(available)],
    [word("temperature"), known(temperature, () => `${temperature.toFixed(0)} °C`)],
    [word("clock"), known(clock, () => `${(clock / 1e9).toFixed(2)} GHz`)],
    [word("disk"), known(disk, () => word("memoryOf", { used: bytes(disk.free), limit: bytes(disk.total) }))],
  ];
}

function errorRows({ errors, refused }) {
  const rows = Object.entries(errors).map(([kind, count]) => [kind, String(count)]);
  for (const [status, count] of Object.entries(refused)) rows.push([word("refused", { status }), String(count)]);
  return rows.length > 0 ? rows : [[word("errors"), word("none")]];
}

const known = (value, show) => (value === null ? word("nothing") : show(value));
const seconds = (value) => word("seconds", { seconds: value.toFixed(2) });
const bytes = (value) => (value >= 1e9 ? `${(value / 1e9).toFixed(2)} GB` : `${(value / 1e6).toFixed(0)} MB`);

function duration(value) {
  const days = Math.floor(value / 86400);
  const hours = Math.floor((value % 86400) / 3600);
  const minutes = Math.floor((value % 3600) / 60);
  if (days > 0) return word("uptimeDays", { days, hours });
  return hours > 0 ? word("uptimeHours", { hours, minutes }) : word("uptimeMinutes", { minutes });
}
