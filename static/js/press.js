// One press is one act. A second press of the same button is not sent while the first is on its way, nothing is sent
// into a lost connection, and a request that fails says so beside what was pressed. The server refuses old and double
// presses by itself; this only spares people the refusal.

const ON_ITS_WAY = 15000; // ms; after that the button may be pressed again

const WORDS = {
  0: "Nothing was sent: no connection to the hub. Press again when it is back.",
  403: "Nothing was done: your role does not allow this.",
  404: "Nothing was done: this is not there any more. Reload the page.",
  409: "Nothing was done: somebody was faster. Reload the page and look at what is there now.",
  413: "Nothing was sent: that is too big.",
};

export function say(element, text) {
  const place = element.closest(".act, form, td, li") ?? element;
  let word = place.nextElementSibling?.classList.contains("press-word") ? place.nextElementSibling : null;
  if (!word) {
    word = document.createElement("p");
    word.className = "press-word";
    word.setAttribute("role", "alert");
    place.after(word);
  }
  word.textContent = text;
}

function free(form) {
  delete form.dataset.sent;
  for (const button of form.querySelectorAll("[aria-busy]")) button.removeAttribute("aria-busy");
}

document.addEventListener("submit", (event) => {
  const form = event.target;
  if (event.defaultPrevented || form.method !== "post") return;
  const button = event.submitter ?? form;
  if (form.dataset.sent) {
    event.preventDefault();
    return;
  }
  if (!navigator.onLine || document.documentElement.hasAttribute("data-lost")) {
    event.preventDefault();
    say(button, WORDS[0]);
    return;
  }
  form.dataset.sent = "1";
  button.setAttribute("aria-busy", "true");
  setTimeout(() => free(form), ON_ITS_WAY);
});

// A page that comes back from the browser's store is as it was before the press.
window.addEventListener("pageshow", () => document.querySelectorAll("form[data-sent]").forEach(free));

// A grey button tells why beside it; pressing it does nothing.
document.addEventListener("click", (event) => {
  if (event.target.closest?.("[aria-disabled='true']")) event.preventDefault();
});

for (const name of ["htmx:responseError", "htmx:sendError", "htmx:timeout"]) {
  document.addEventListener(name, (event) => {
    const element = event.detail.elt;
    if (element.matches("[hx-trigger*='every']")) return; // a poll: the page as a whole says it
    const status = event.detail.xhr?.status ?? 0;
    say(element, WORDS[status] ?? "The hub failed; whether it was done is shown when you reload the page.");
  });
}
