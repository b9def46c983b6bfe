// Ages tick here, the page says when it has lost the server, and what changed is announced.
// Everything works without this file.

const LOST_AFTER = 10; // seconds without an answer while something polls

function words(seconds) {
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return seconds % 60 ? `${Math.floor(seconds / 60)} min ${seconds % 60} s` : `${seconds / 60} min`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ${String(Math.floor((seconds % 3600) / 60)).padStart(2, "0")} min`;
  return `${Math.floor(seconds / 86400)} d ${Math.floor((seconds % 86400) / 3600)} h`;
}

function write(element, text) {
  if (element && element.textContent !== text) element.textContent = text;
}

// The browser's clock may be wrong: ages count from the server's, as it was when the page was built.
const built = document.querySelector("meta[name=built]");
const skew = built ? Date.now() - Date.parse(built.content) : 0;

let heard = Date.now(); // of the last answer
let failed = ""; // how the last request ended: "" well, "lost" without an answer, "fails" by the server's fault, "closed" to this person
let paused = false; // an answer was put off because a person has something in hand
let said = ""; // the state that was announced last

function polls() {
  return document.querySelector("[hx-trigger*='every']") !== null;
}

function ages(now) {
  for (const time of document.querySelectorAll("time[data-age]")) {
    const seconds = Math.max(0, Math.floor((now - skew - Date.parse(time.dateTime)) / 1000));
    write(time, `${words(seconds)} ${time.dataset.age}`);
    if (time.dataset.stale) time.classList.toggle("age-stale", seconds > Number(time.dataset.stale));
  }
}

// State of the page as a whole: its sign, its word, and what is announced when it comes about.
function standing(silent) {
  const down = document.querySelector("#control[data-down]") !== null;
  if (failed === "closed") return ["unknown", "Not open to you any more: reload", "This page is not open to you any more. Reload it."];
  if (failed === "fails") return ["unknown", `The hub fails: page is ${words(silent)} old`, "The hub fails. The page is tried again by itself."];
  if (failed || silent > LOST_AFTER) return ["unknown", `Connection lost: page is ${words(silent)} old`, "The connection is lost. The page is tried again by itself."];
  if (down) return ["unknown", "Nothing moves", "Nothing moves now: the controller gives no sign of life."];
  if (paused) return ["held", "Paused while you answer", "Updates are paused while you answer."];
  return ["done", "Live", "The page is live."];
}

function tick() {
  const now = Date.now();
  ages(now);
  const sign = document.getElementById("live");
  if (!sign) return;
  const silent = Math.floor((now - heard) / 1000);
  const alive = polls();
  const [state, text, spoken] = standing(silent);
  const lost = alive && (failed !== "" || silent > LOST_AFTER);
  document.documentElement.toggleAttribute("data-lost", lost);
  const banner = document.getElementById("lost");
  if (banner) banner.hidden = !lost || failed === "closed";
  write(document.getElementById("lost-age"), words(silent));
  sign.hidden = !alive;
  sign.dataset.state = state;
  write(sign, text);
  if (alive && said !== state + spoken) {
    if (said) announce([spoken]);
    said = state + spoken;
  }
}

// ---- Announcements: only what changed, and politely -----------------------------------------

const QUEUE = 4; // more than that is counted, not read out

function announce(lines) {
  const more = lines.length > QUEUE ? [`and ${lines.length - QUEUE} more.`] : [];
  write(document.getElementById("announce"), [...lines.slice(0, QUEUE), ...more].join(" "));
}

function sayings() {
  return new Map([...document.querySelectorAll("[data-say]")].map((each) => [each.id, each.dataset.say]));
}

let before = sayings();

function changes() {
  const now = sayings();
  const lines = [...now].filter(([id, text]) => before.has(id) && before.get(id) !== text).map(([, text]) => text);
  before = now;
  if (lines.length) announce(lines);
}

// ---- What a person has in hand is not taken away ---------------------------------------------
// An open question, a field with the cursor in it, a changed answer: the whole answer is put off. Its tag stays the
// old one, so the next poll brings it again.

function changed(field) {
  if (field.type === "radio" || field.type === "checkbox") return field.checked !== field.defaultChecked;
  if (field.type === "hidden" || !("defaultValue" in field)) return false;
  if ("kept" in field.dataset) return field.value !== ""; // typed before the page was drawn
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

// What a person folded or unfolded stays so when its region is drawn again.
const folds = new Map();
document.addEventListener("click", (event) => {
  const each = event.target.closest?.("summary")?.parentElement;
  if (each?.id && each.matches("[data-live] details:not([data-ask])")) folds.set(each.id, !each.open); // as it will be
});

function refold() {
  for (const [id, open] of folds) {
    const each = document.getElementById(id);
    if (each && each.open !== open) each.open = open;
  }
}

// 204 is an answer too; an error of the server or of the network is none.
document.addEventListener("htmx:afterRequest", (event) => {
  const status = event.detail.xhr?.status ?? 0;
  if (event.detail.successful) {
    heard = Date.now();
    failed = "";
  } else if (status === 403 || status === 404) {
    failed = "closed";
  } else {
    failed = status ? "fails" : "lost";
  }
  tick();
});
document.addEventListener("htmx:afterSettle", () => {
  refold();
  changes();
  tick();
});

// Browsers slow the timers of hidden pages: look again as soon as somebody does, or the network is back.
function wake() {
  heard = Math.max(heard, Date.now() - 1000 * (LOST_AFTER - 3));
  const pulse = document.getElementById("pulse");
  if (pulse && window.htmx) window.htmx.trigger(pulse, "wake");
}
document.addEventListener("visibilitychange", () => {
  if (document.visibilityState === "visible") wake();
});
window.addEventListener("online", wake);
window.addEventListener("offline", () => {
  failed = "lost";
  tick();
});

// On a phone the tabs are one line that moves sideways: the current one is in view.
document.querySelector(".tabs [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });

setInterval(tick, 1000);
tick();
