// What makes the pages handier. Without this script everything is still there to read.
"use strict";

const NUMBER = /^[-−+±<>≈]?\s*[\d.,]+(e[-+]?\d+)?\s*(%|points)?(\s*[([].*[)\]])?$|^[–-]?$/i;
const text = (cell) => cell.textContent.trim().replace(/\s+/g, " ");

/** Let a table scroll in a region of its own, and align its numbers. */
function improveTable(table, number) {
  if (table.closest(".iav-table, .iav-claims, .highlighttable") || !table.tBodies[0]?.rows.length) return;
  const rows = [...table.tBodies[0].rows];
  const head = table.tHead ? [...table.tHead.rows] : [];
  // counted from the right: on the left one name may stand for several rows
  const at = (row, column) => row.cells[row.cells.length - column];
  for (let column = 1; column <= rows[0].cells.length; column++) {
    const cells = rows.map((row) => at(row, column)).filter((cell) => cell?.matches("td"));
    if (!cells.some((c) => /\d/.test(text(c))) || !cells.every((c) => NUMBER.test(text(c)))) continue;
    for (const cell of [...cells, ...head.map((row) => at(row, column))]) cell?.classList.add("iav-number");
  }
  const region = document.createElement("div");
  region.className = "iav-table";
  region.dataset.name = `Table ${number + 1}`;
  table.replaceWith(region);
  region.append(table);
  if (table.matches(".dataframe")) region.after(csvButton(table, number + 1));
}

function csvButton(table, number) {
  const button = document.createElement("button");
  button.className = "iav-csv";
  button.textContent = "Download CSV";
  button.setAttribute("aria-label", `Download CSV of table ${number}`);
  button.addEventListener("click", () => {
    // a spreadsheet takes text that begins so as a formula, unless it is a number
    const harmless = (value) => (/^[=+\-@\t\r]/.test(value) && !NUMBER.test(value) ? `'${value}` : value);
    const escaped = (value) => (/[",\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value);
    const quote = (value) => escaped(harmless(value));
    const lines = [...table.rows].map((row) => [...row.cells].map((c) => quote(text(c))).join(","));
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([lines.join("\r\n") + "\r\n"], { type: "text/csv" }));
    const page = location.pathname.split("/").pop().replace(/\.html$/, "");
    link.download = `${page}-table-${number}.csv`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  });
  return button;
}

/** Fold printed lines of which there are many. */
function foldLog(output) {
  const lines = output.textContent.trim().split("\n").length;
  if (lines < 6) return;
  const details = document.createElement("details");
  details.className = "iav-log";
  const summary = document.createElement("summary");
  summary.textContent = `Printed lines (${lines})`;
  output.replaceWith(details);
  details.append(summary, output);
}

/** Show only the claims that fit what is typed and chosen; open the sources that hold some. */
function filterClaims(form) {
  form.hidden = false;
  const count = form.querySelector("output");
  const apply = () => {
    const words = form.elements.words.value.toLowerCase().split(/\s+/).filter(Boolean);
    const label = form.elements.label.value;
    let shown = 0;
    for (const source of document.querySelectorAll("details.iav-source")) {
      let here = 0;
      for (const row of source.querySelectorAll("tbody tr")) {
        const found = words.every((word) => text(row).toLowerCase().includes(word));
        row.hidden = !found || (label !== "" && row.dataset.label !== label);
        here += !row.hidden;
      }
      source.hidden = here === 0;
      source.open = here > 0 && (words.length > 0 || label !== "");
      shown += here;
    }
    count.textContent = `${shown} claims`;
  };
  for (const kind of ["input", "change"]) form.addEventListener(kind, apply);
  form.addEventListener("submit", (event) => event.preventDefault());
}

/** Names for controls of the theme that have none, or another than the one they show. */
function nameControls() {
  for (const summary of document.querySelectorAll("nav li summary")) {
    const title = summary.closest("li")?.querySelector("a");
    summary.setAttribute("aria-label", `Pages below ${title ? text(title) : "this one"}`);
  }
  for (const summary of document.querySelectorAll("article details > summary[aria-label]")) {
    summary.removeAttribute("aria-label"); // its text says what it shows
  }
  for (const button of document.querySelectorAll(".search-button__button, .theme-switch-button")) {
    const shown = button.innerText.trim().replace(/\s+/g, " ");
    const label = button.getAttribute("aria-label") ?? "";
    if (!label.includes(shown)) button.setAttribute("aria-label", `${shown}: ${label}`);
  }
}

/** What is scrolled can be reached with the keyboard. */
function focusScrolled() {
  for (const element of document.querySelectorAll("article :is(pre, .math > math, .iav-table)")) {
    const { scrollWidth, clientWidth, scrollHeight, clientHeight } = element;
    if (scrollWidth <= clientWidth && scrollHeight <= clientHeight) continue;
    element.tabIndex = 0;
    if (element.dataset.name) {
      element.setAttribute("role", "region");
      element.setAttribute("aria-label", element.dataset.name);
    }
  }
}

document.addEventListener("DOMContentLoaded", () => {
  document.querySelectorAll("article table").forEach(improveTable);
  document.querySelectorAll(".cell_output .output.stream").forEach(foldLog);
  document.querySelectorAll("form.iav-filter").forEach(filterClaims);
  nameControls();
  focusScrolled();
});
