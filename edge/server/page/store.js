// What is kept in the browser: settings and one entry a conversation. Where the browser keeps nothing, this page does.

import { conversationFrom } from "./conversation.js";

const CONVERSATION = "edge.conversation.";

/** `area` gives the browser's storage, and may throw; without one everything is in memory. */
export function openStore(area = () => null) {
  const memory = new Map();
  let kept = null;
  try {
    kept = area();
  } catch {
    // forbidden: in memory then
  }
  return {
    keys: () => [...new Set([...memory.keys(), ...(kept ? Object.keys(kept) : [])])],
    read(key) {
      try {
        return memory.has(key) ? memory.get(key) : JSON.parse(kept?.getItem(key) ?? "null");
      } catch {
        return null; // not ours, or broken
      }
    },
    /** Whether the value outlives the page. */
    write(key, value) {
      try {
        if (!kept) throw new Error("no storage");
        kept.setItem(key, JSON.stringify(value));
        memory.delete(key);
        return true;
      } catch {
        memory.set(key, value);
        return false;
      }
    },
    remove(key) {
      memory.delete(key);
      kept?.removeItem(key);
    },
  };
}

/** All conversations, the one changed last first. */
export function conversations(store) {
  const ids = store.keys().filter((key) => key.startsWith(CONVERSATION)).map((key) => key.slice(CONVERSATION.length));
  return ids.map((id) => readConversation(store, id)).filter(Boolean).sort((one, other) => other.changed - one.changed);
}

export function readConversation(store, id) {
  const conversation = conversationFrom(store.read(CONVERSATION + id));
  return conversation && { ...conversation, id };
}

export const keepConversation = (store, conversation) => store.write(CONVERSATION + conversation.id, conversation);
export const removeConversation = (store, id) => store.remove(CONVERSATION + id);
export const isConversationKey = (key) => key === null || key.startsWith(CONVERSATION);
