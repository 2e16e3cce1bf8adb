// @ts-check
/** State that views watch: changed at once, drawn at most once a frame. */

import { useLayoutEffect, useState } from "./html.js";

const HIDDEN_EVERY_MS = 500; // A hidden page gets no animation frames.

/** @template {object} State */
export class Store {
  #watchers = new Set();
  #asked = false;

  /** @param {State} state */
  constructor(state) {
    this.state = state;
  }

  /** @param {Partial<State>} change */
  set(change) {
    this.state = { ...this.state, ...change };
    if (this.#asked) return;
    this.#asked = true;
    const draw = () => {
      this.#asked = false;
      this.#watchers.forEach((watcher) => watcher());
    };
    if (document.hidden) setTimeout(draw, HIDDEN_EVERY_MS);
    else requestAnimationFrame(draw);
  }

  /** @param {() => void} watcher @returns {() => void} Ends the watch. */
  watch(watcher) {
    this.#watchers.add(watcher);
    return () => void this.#watchers.delete(watcher);
  }
}

/**
 * The state of a store; the view is drawn again when it changes.
 * @template {object} State
 * @param {Store<State>} store @returns {State}
 */
export function useStore(store) {
  const [, draw] = useState(0);
  useLayoutEffect(() => store.watch(() => draw((/** @type {number} */ n) => n + 1)), [store]);
  return store.state;
}
