// @ts-check
/** The page: which view is shown, the thread list beside it, and what is said aloud. */

import { announcer } from "./announcer.js";
import { Conversation } from "./conversation.js";
import { html, render, useEffect, useLayoutEffect, useRef, useState } from "./html.js";
import { href, here } from "./routes.js";
import { useStore } from "./store.js";
import { ThreadList } from "./thread-list.js";
import { uuid } from "./wire.js";
import { ApiKey } from "./views/api-key.js";
import { NewThread } from "./views/new-thread.js";
import { Thread } from "./views/thread.js";
import { Threads } from "./views/threads.js";

function App() {
  const route = useRoute();
  const [list] = useState(() => new ThreadList());
  const [conversation, setConversation] = useState(/** @type {Conversation | null} */ (null));
  const quiet = useRef(true); // The first view, and a thread that grew out of a question, keep the focus.
  const { problem } = useStore(list);
  useEffect(() => list.keepFresh(), [list]);

  useEffect(() => {
    if (conversation?.threadId === route.threadId) return;
    conversation?.close();
    const opened = route.threadId ? new Conversation(route.threadId) : null;
    opened?.load();
    setConversation(opened);
  }, [route.threadId]);

  const isOpen = route.threadId === null || conversation?.threadId === route.threadId;
  useLayoutEffect(() => {
    if (!isOpen) return;
    if (!quiet.current) /** @type {HTMLElement | null} */ (document.querySelector("h1"))?.focus();
    quiet.current = false;
  }, [isOpen, route.name, route.threadId]);

  /** @type {import("./views/new-thread.js").Begin} */
  const begin = async (metadata, first) => {
    const made = await Conversation.create(uuid(), metadata);
    quiet.current = true;
    setConversation(made);
    location.replace(href.thread(made.threadId));
    first(made);
    list.refresh();
  };

  if (problem?.kind === "key") return html`<${ApiKey} onKey=${() => location.reload()} />`;
  if (route.name === "threads") {
    return html`<main class="listing"><${Threads} list=${list} current=${null} isPage=${true} /></main>
      <${Announcements} />`;
  }
  return html`
    <a class="skip" href="#main" onClick=${toMain}>Skip to the conversation</a>
    <div class="page">
      <${Threads} list=${list} current=${route.threadId} isPage=${false} />
      <main id="main" tabindex="-1">
        ${route.threadId === null ? html`<${NewThread} begin=${begin} />` : null}
        ${conversation && isOpen && route.threadId !== null
          ? html`<${Thread} key=${conversation.threadId} conversation=${conversation} list=${list} />`
          : null}
      </main>
    </div>
    <${Announcements} />
  `;
}

/** @param {Event} event The address stays that of the view. */
function toMain(event) {
  event.preventDefault();
  document.getElementById("main")?.focus();
}

function useRoute() {
  const [route, setRoute] = useState(here);
  useEffect(() => {
    const changed = () => setRoute(here());
    addEventListener("hashchange", changed);
    return () => removeEventListener("hashchange", changed);
  }, []);
  return route;
}

function Announcements() {
  const { lines } = useStore(announcer);
  return html`<div role="log" aria-label="What happened" class="unseen">
    ${lines.map(({ key, text }) => html`<p key=${key}>${text}</p>`)}
  </div>`;
}

render(html`<${App} />`, /** @type {HTMLElement} */ (document.getElementById("app")));
