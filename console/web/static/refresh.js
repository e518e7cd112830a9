// Refreshes the page every few seconds while it is visible.
"use strict";

const INTERVAL = 5000;
const note = document.getElementById("refreshed");
let refreshing = false;

async function refresh() {
  if (document.hidden || refreshing) return;
  const live = document.getElementById("live");
  // Selected or focused content is not replaced.
  if (live.contains(document.activeElement) || String(getSelection())) return;
  refreshing = true;
  try {
    const answer = await fetch(location.origin + location.pathname, { signal: AbortSignal.timeout(20000) });
    // The login has ended: the page itself leads to the login page.
    if (answer.redirected) return location.reload();
    if (!answer.ok) throw new Error(answer.status);
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    live.replaceWith(document.adoptNode(page.getElementById("live")));
    note.textContent = "Refreshed at " + new Date().toISOString().slice(11, 19) + ", every 5 seconds.";
    note.classList.remove("bad");
  } catch {
    note.textContent = "The console does not respond: this is its last known state.";
    note.classList.add("bad");
  } finally {
    refreshing = false;
  }
}

setInterval(refresh, INTERVAL);
document.addEventListener("visibilitychange", refresh);
