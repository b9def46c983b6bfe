// Ages tick here, and the page says when it has lost the server. Everything works without this file.

const LOST_AFTER = 10; // seconds without an answer while something polls

function words(seconds) {
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return seconds % 60 ? `${Math.floor(seconds / 60)} min ${seconds % 60} s` : `${seconds / 60} min`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ${String(Math.floor((seconds % 3600) / 60)).padStart(2, "0")} min`;
  return `${Math.floor(seconds / 86400)} d ${Math.floor((seconds % 86400) / 3600)} h`;
}

// The browser's clock may be wrong: ages count from the server's, as it was when the page was built.
const built = document.querySelector("meta[name=built]");
const skew = built ? Date.now() - Date.parse(built.content) : 0;

let heard = Date.now(); // of the last answer
let paused = false; // an answer was put off because a person has something in hand

function polls() {
  return document.querySelector("[hx-trigger*='every']") !== null;
}

function tick() {
  const now = Date.now();
  for (const time of document.querySelectorAll("time[data-age]")) {
    const seconds = Math.max(0, Math.floor((now - skew - Date.parse(time.dateTime)) / 1000));
    const text = `${words(seconds)} ${time.dataset.age}`;
    if (time.textContent !== text) time.textContent = text;
    if (time.dataset.stale) time.classList.toggle("age-stale", seconds > Number(time.dataset.stale));
  }
  const sign = document.getElementById("live");
  if (!sign) return;
  const silent = Math.floor((now - heard) / 1000);
  const lost = polls() && silent > LOST_AFTER;
  document.documentElement.toggleAttribute("data-lost", lost);
  sign.hidden = !polls();
  sign.dataset.state = lost ? "unknown" : paused ? "held" : "done";
  const text = lost ? `Connection lost: page is ${words(silent)} old` : paused ? "Paused while you answer" : "Live";
  if (sign.textContent !== text) sign.textContent = text;
}

// What a person has in hand is not taken away: an open question, a field with the cursor in it, a changed answer.
// The whole answer is put off; its tag stays the old one, so the next poll brings it again.
function changed(field) {
  if (field.type === "radio" || field.type === "checkbox") return field.checked !== field.defaultChecked;
  if (field.type === "hidden" || !("defaultValue" in field)) return false;
  return field.value !== field.defaultValue;
}

function inHand(region) {
  const open = [...region.querySelectorAll("details[data-ask]")].some((each) => each.open !== each.hasAttribute("data-opened"));
  const active = document.activeElement;
  const typing = region.contains(active) && active.matches("input, textarea, select");
  return open || typing || [...region.querySelectorAll("input, textarea")].some(changed);
}

document.addEventListener("htmx:beforeSwap", (event) => {
  if (event.detail.target?.id !== "pulse") return;
  if ([...document.querySelectorAll("[data-live]")].some(inHand)) {
    event.detail.shouldSwap = false;
    paused = true;
  } else {
    paused = false;
  }
});

// 204 is an answer too; an error of the server or of the network is none.
document.addEventListener("htmx:afterRequest", (event) => {
  if (event.detail.successful) heard = Date.now();
  tick();
});
document.addEventListener("htmx:afterSwap", tick);
document.addEventListener("visibilitychange", () => {
  if (document.visibilityState === "visible") heard = Date.now(); // browsers slow the timers of hidden pages
});

setInterval(tick, 1000);
tick();
