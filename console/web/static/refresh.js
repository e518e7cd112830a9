// Looks again every few seconds, while somebody looks at the page.
"use strict";

const INTERVAL = 5000;
const told = document.getElementById("refreshed");
let asking = false;

async function refresh() {
  if (document.hidden || asking) return;
  const live = document.getElementById("live");
  // What somebody reads out or has the focus on is not taken away.
  if (live.contains(document.activeElement) || String(getSelection())) return;
  asking = true;
  try {
    const answer = await fetch(location.origin + location.pathname, { signal: AbortSignal.timeout(20000) });
    if (!answer.ok) throw new Error(answer.status);
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    live.replaceWith(document.adoptNode(page.getElementById("live")));
    told.textContent = "Looked at " + new Date().toISOString().slice(11, 19) + ", every 5 seconds.";
    told.classList.remove("bad");
  } catch {
    told.textContent = "The console does not answer: this is what it showed last.";
    told.classList.add("bad");
  } finally {
    asking = false;
  }
}

setInterval(refresh, INTERVAL);
document.addEventListener("visibilitychange", refresh);
