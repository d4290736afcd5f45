// What the cases have in common.

export const question = [{ role: "user", content: "Where is the ticket office?" }];

export const all = async (stream) => {
  const items = [];
  for await (const item of stream) items.push(item);
  return items;
};

// What a client's program sees of a refusal.
export const refusal = async (promise) => {
  try {
    await promise;
  } catch (error) {
    const { status, code, param, type, message } = error;
    const retryAfter = error.headers?.get?.("retry-after");
    return { kind: error.constructor.name, status, code, param, type, message, retryAfter };
  }
  return { kind: "none" };
};
