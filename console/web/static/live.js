// Replaces the sections of a page as the console streams them; without a stream it polls the page.
"use strict";

const POLL = 3000;
// Longer than two samples of the console.
const SILENCE = 15000;
const live = document.getElementById("live");
const note = document.getElementById("refreshed");
let source = null;
let poller = null;
let latest = Date.now();

function show(parts, text) {
  for (const [name, html] of Object.entries(parts)) {
    const section = live.querySelector(`[data-part="${name}"]`);
    // Selected or focused content is not replaced; the next change of the section replaces it.
    if (!section || section.contains(document.activeElement) || selects(section)) continue;
    const top = section.querySelector(".scroll")?.scrollLeft;
    section.replaceChildren(...new DOMParser().parseFromString(html, "text/html").body.childNodes);
    if (top) section.querySelector(".scroll").scrollLeft = top;
  }
  latest = Date.now();
  note.textContent = text;
  note.classList.remove("bad");
}

function selects(section) {
  const selection = getSelection();
  return String(selection) !== "" && section.contains(selection.anchorNode);
}

function open() {
  if (document.hidden || source || poller) return;
  if (!live.dataset.stream) {
    poller = setInterval(poll, POLL);
    return;
  }
  source = new EventSource(live.dataset.stream);
  source.onmessage = (event) => {
    const message = JSON.parse(event.data);
    show(message.parts, `Live, sampled at ${message.at}.`);
  };
  source.onerror = () => {
    // The browser reopens a stream that ended. It does not reopen a stream that was refused.
    if (source?.readyState === EventSource.CLOSED) {
      close();
      poller = setInterval(poll, POLL);
      poll();
    }
  };
}

// Each stream occupies one of the few connections of a browser: a hidden page has none.
function close() {
  source?.close();
  source = null;
  clearInterval(poller);
  poller = null;
}

async function poll() {
  try {
    const answer = await fetch(location.pathname, { signal: AbortSignal.timeout(20000) });
    // The login has ended: the page itself leads to the login page.
    if (answer.redirected) return location.reload();
    if (!answer.ok) throw new Error(answer.status);
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const parts = {};
    for (const part of page.querySelectorAll("[data-part]")) parts[part.dataset.part] = part.innerHTML;
    show(parts, `Refreshed every ${POLL / 1000} seconds.`);
  } catch {
    latest = 0;
  }
}

setInterval(() => {
  if (document.hidden || Date.now() - latest < SILENCE) return;
  note.textContent = "The console does not respond: this is its last known state.";
  note.classList.add("bad");
}, 1000);

document.addEventListener("visibilitychange", () => {
  latest = Date.now();
  close();
  open();
});
open();
