// @ts-check
/** Words for what the API names in codes, and for times. */

/** @typedef {{ kind: "idle" | "busy" | "waiting" | "stopped" | "error", word: string }} Standing */

/**
 * Where a thread stands. An interrupted one waits for a person only if there is something to answer.
 * @param {{ status: string, interrupts?: Record<string, unknown[]> }} thread @returns {Standing}
 */
export function standing({ status, interrupts = {} }) {
  switch (status) {
    case "busy": return { kind: "busy", word: "Running" };
    case "error": return { kind: "error", word: "Failed" };
    case "interrupted":
      return Object.keys(interrupts).length
        ? { kind: "waiting", word: "Waiting for you" }
        : { kind: "stopped", word: "Stopped" };
    default: return { kind: "idle", word: "Done" };
  }
}

/**
 * @param {{ metadata?: Record<string, any> | null, extracted?: Record<string, any> }} thread
 * @param {(content: unknown) => string} textOf
 * @returns {string}
 */
export function titleOf(thread, textOf) {
  const given = thread.metadata?.title;
  const title = typeof given === "string" && given.trim() ? given : textOf(thread.extracted?.first ?? "");
  return shortened(title) || "Untitled thread";
}

/** @param {string} text One line of at most 80 characters. */
export function shortened(text) {
  const line = text.trim().replace(/\s+/g, " ");
  return line.length > 80 ? `${line.slice(0, 79).trimEnd()}…` : line;
}

const UNITS = /** @type {const} */ ([["minute", 60], ["hour", 3600], ["day", 86_400]]);
const RELATIVE = new Intl.RelativeTimeFormat("en", { numeric: "auto", style: "long" });
const DATE = new Intl.DateTimeFormat("en", { day: "numeric", month: "short", year: "numeric" });

/** @param {string} time ISO 8601 @param {number} [now] @returns {string} */
export function ago(time, now = Date.now()) {
  const seconds = Math.max(0, (now - Date.parse(time)) / 1000);
  if (seconds < 60) return "just now";
  if (seconds > 7 * 86_400) return DATE.format(new Date(time));
  const [unit, size] = [...UNITS].reverse().find(([, length]) => seconds >= length) ?? UNITS[0];
  return RELATIVE.format(-Math.floor(seconds / size), unit);
}
