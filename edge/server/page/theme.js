// Light or dark: chosen, or as the system is and becomes.

const dark = matchMedia("(prefers-color-scheme: dark)");
let chosen = "";

function apply() {
  document.documentElement.dataset.theme = chosen || (dark.matches ? "dark" : "light");
}

/** wanted: "light", "dark", or anything else for the system's. */
export function chooseTheme(wanted) {
  chosen = wanted === "light" || wanted === "dark" ? wanted : "";
  apply();
}

dark.addEventListener("change", apply);
