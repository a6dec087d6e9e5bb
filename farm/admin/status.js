"use strict";
// Takes the page anew every few seconds and puts in place the parts that read differently. What is fetched is the page
// that the server has escaped; the content security policy lets nothing in it run.

const EVERY_MS = 5000;
const PATIENCE_MS = 10000;
const lost = document.getElementById("lost");
const updated = document.getElementById("updated");
let seen = new Date();
let waiting = 0;

function say(time) {
  return time.toLocaleTimeString();
}

function put(fresh) {
  if (fresh.documentElement.dataset.version !== document.documentElement.dataset.version) {
    location.reload(); // after an upgrade the page may be another
    return;
  }
  document.title = fresh.title;
  const parts = ["head", ...Array.from(fresh.querySelectorAll("main section"), (part) => part.id)];
  for (const id of parts) {
    const now = document.getElementById(id);
    const next = fresh.getElementById(id);
    if (now === null) {
      location.reload(); // a node that was alone is in a farm
      return;
    }
    if (now.outerHTML !== next.outerHTML) {
      replace(now, next);
    }
  }
}

function replace(now, next) {
  // a table that was moved sideways stays where it is
  const left = Array.from(now.querySelectorAll(".wide"), (box) => box.scrollLeft);
  const focused = now.contains(document.activeElement) && document.activeElement.classList.contains("wide");
  now.replaceWith(document.adoptNode(next));
  next.querySelectorAll(".wide").forEach((box, index) => {
    box.scrollLeft = left[index] || 0;
    if (focused) {
      box.focus({ preventScroll: true });
    }
  });
}

async function refresh() {
  clearTimeout(waiting);
  try {
    const answer = await fetch("/", { cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS) });
    if (!answer.ok) {
      throw new Error(`status ${answer.status}`);
    }
    put(new DOMParser().parseFromString(await answer.text(), "text/html"));
    seen = new Date();
    lost.hidden = true;
    updated.textContent = `as of ${say(seen)}`;
  } catch {
    lost.querySelector("time").textContent = say(seen);
    lost.hidden = false;
  }
  waiting = setTimeout(next, EVERY_MS);
}

function next() {
  if (!document.hidden) {
    refresh();
  }
}

document.addEventListener("visibilitychange", next);
updated.textContent = `as of ${say(seen)}`;
waiting = setTimeout(next, EVERY_MS);
