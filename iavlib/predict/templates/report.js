"use strict";
const body = document.querySelector("#images tbody");
const heads = [...document.querySelectorAll("#images th[data-key]")];

function valueOf(row, key) {
  const text = row.dataset[key] ?? "";
  return text === "" ? null : key === "name" ? text : Number(text);
}

function sortBy(head, direction) {
  const key = head.dataset.key;
  const rows = [...body.rows];
  rows.sort((a, b) => {
    const x = valueOf(a, key), y = valueOf(b, key);
    if (x === null || y === null) return (x === null) - (y === null);
    return direction * (key === "name" ? x.localeCompare(y) : x - y);
  });
  body.append(...rows);
  for (const other of heads) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", direction > 0 ? "ascending" : "descending");
}

for (const head of heads) {
  head.querySelector("button").addEventListener("click", () =>
    sortBy(head, head.getAttribute("aria-sort") === "ascending" ? -1 : 1));
}

const dialog = document.querySelector("dialog");

function show(row) {
  const template = row.querySelector("template");
  if (!template) return;
  const content = dialog.querySelector(".content");
  content.replaceChildren(template.content.cloneNode(true));
  for (const box of content.querySelectorAll("input[type=checkbox]")) {
    const layer = content.querySelector("." + box.value);
    const follow = () => { layer.toggleAttribute("hidden", !box.checked); };
    box.addEventListener("change", () => {
      if (box.checked && box.dataset.group) {
        for (const other of content.querySelectorAll(`input[data-group=${box.dataset.group}]`)) {
          if (other !== box && other.checked) { other.checked = false; other.dispatchEvent(new Event("change")); }
        }
      }
      follow();
    });
    follow();
  }
  dialog.showModal();
}

body.addEventListener("click", (event) => {
  const row = event.target.closest("tr");
  if (row) show(row);
});
body.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && event.target.matches("tr")) show(event.target);
});
dialog.querySelector("button.close").addEventListener("click", () => dialog.close());
