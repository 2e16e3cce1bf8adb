// @ts-check
/** What went wrong, in words, with what to do next. */

import { Refused, Unreachable } from "./wire.js";

/** @typedef {{ title: string, detail: string, advice: string, kind: "key" | "gone" | "again" | "none" }} Problem */

/** @param {unknown} error @returns {Problem} */
export function problemOf(error) {
  if (error instanceof Unreachable) {
    return {
      kind: "again", title: "The server cannot be reached", detail: "",
      advice: "Check that Interlock is running and that you are online, then try again.",
    };
  }
  if (error instanceof Refused) return refusal(error);
  const detail = error instanceof Error ? error.message : String(error);
  return {
    kind: "again", title: "The console met an error of its own", detail,
    advice: "Reload the page. What the server holds is not affected.",
  };
}

/** @param {Refused} error @returns {Problem} */
function refusal({ status, message: detail }) {
  switch (status) {
    case 401:
      return { kind: "key", title: "An API key is needed", detail, advice: "Enter a key of this server." };
    case 403:
      return { kind: "none", title: "Not permitted", detail, advice: "Ask an administrator for this permission." };
    case 404:
      return { kind: "gone", title: "Not found", detail, advice: "It may have been deleted. Choose another thread." };
    case 409:
      return {
        kind: "again", title: "The thread is busy", detail,
        advice: "Another run is under way. Wait for it to end, or stop it, then send again.",
      };
    case 400:
    case 422:
      return { kind: "none", title: "The server did not accept this", detail, advice: "Change it and send again." };
    default:
      return {
        kind: "again", title: `The server failed (${status})`, detail,
        advice: "Try again. If it stays, the server's log tells more.",
      };
  }
}

/** @param {{ error?: string, message?: string }} error Of a run, as the wire has it. @returns {Problem} */
export function failureOf({ error = "Error", message = "" }) {
  if (error === "BudgetExceeded") {
    return {
      kind: "none", title: "Stopped at its limit", detail: message,
      advice: "The limit is set in the configuration or on the assistant. What was reached so far is kept.",
    };
  }
  return {
    kind: "again", title: "The run failed", detail: message ? `${error}: ${message}` : error,
    advice: "Everything before the failure is kept. Try again from the last step, or send a new message.",
  };
}
