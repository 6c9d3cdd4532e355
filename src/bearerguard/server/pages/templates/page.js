/* What pages do besides, where scripts run. Each works without this one:
   - an input with data-show and data-hide, the texts of a button: the button shows what is typed;
   - an element with data-wait: in its text, data-words, a waiting time, counts down from that many
     seconds; then the text is data-over. */
"use strict";
for (const input of document.querySelectorAll("input[data-show]")) {
  const button = document.createElement("button");
  const set = (type) => {
    input.type = type;
    button.textContent = type === "text" ? input.dataset.hide : input.dataset.show;
  };
  button.type = "button";
  button.className = "link";
  button.addEventListener("click", () => set(input.type === "text" ? "password" : "text"));
  // Browsers store what was typed into a field of text.
  input.form?.addEventListener("submit", () => set("password"));
  set("password");
  input.after(button);
}
for (const element of document.querySelectorAll("[data-wait]")) {
  const text = element.textContent, at = text.indexOf(element.dataset.words);
  if (at < 0) continue;
  const end = Date.now() + 1000 * element.dataset.wait;
  const clock = document.createElement("span");
  // A screen reader says the text once, and not every second.
  clock.setAttribute("role", "timer");
  clock.setAttribute("aria-live", "off");
  const tick = () => {
    const left = Math.ceil((end - Date.now()) / 1000);
    if (left <= 0) {
      clearInterval(timer);
      element.textContent = element.dataset.over;
      return;
    }
    clock.textContent = Math.floor(left / 60) + ":" + String(left % 60).padStart(2, "0");
  };
  const timer = setInterval(tick, 250);
  element.replaceChildren(text.slice(0, at), clock, text.slice(at + element.dataset.words.length));
  tick();
}
