// @ts-check
/** What a screen reader is told: whole messages, never tokens. */

import { Store } from "./store.js";

const KEPT = 20;

/** @type {Store<{ lines: { key: number, text: string }[] }>} */
export const announcer = new Store({ lines: [] });

let count = 0;

/** @param {string} text */
export function announce(text) {
  if (!text.trim()) return;
  const lines = [...announcer.state.lines, { key: ++count, text }];
  announcer.set({ lines: lines.slice(-KEPT) });
}
