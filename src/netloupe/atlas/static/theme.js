// Sets light or dark before the first paint, so it is a plain script and not a module.
(() => {
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const remembered = () => {
    try {
      return localStorage.getItem("netloupe-theme");
    } catch {
      return null; // storage may be forbidden
    }
  };
  const show = () => { root.dataset.theme = remembered() ?? (dark.matches ? "dark" : "light"); };

  show();
  dark.addEventListener("change", show);
  addEventListener("storage", show); // another tab changed it

  addEventListener("DOMContentLoaded", () => {
    document.getElementById("theme").addEventListener("click", () => {
      const theme = root.dataset.theme === "dark" ? "light" : "dark";
      root.dataset.theme = theme;
      try {
        localStorage.setItem("netloupe-theme", theme);
      } catch {
        // the choice then lasts until the page is closed
      }
    });
    if (location.protocol === "file:") {
      document.querySelector("#view .notice").textContent =
        "Browsers do not let a page read its data from files. Serve this folder instead, "
        + "for example with “python -m http.server --bind 127.0.0.1”, and open the address it prints.";
    }
  });
})();
