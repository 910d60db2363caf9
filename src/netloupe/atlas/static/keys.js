// The keyboard outside of input fields. The arrows follow the links that a view marks with rel="prev", "next" and "up".

const LINKS = { ArrowLeft: "prev", ArrowRight: "next", u: "up" };

export function setUpKeys() {
  const dialog = document.getElementById("keys");
  const showKeys = () => { if (!dialog.open) dialog.showModal(); };
  document.getElementById("keys-button").addEventListener("click", showKeys);
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); }); // beside the dialog

  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || dialog.open) return;
    if (event.target.closest("input, select, textarea")) return;
    if (event.key === "/") {
      event.preventDefault();
      document.getElementById("goto").focus();
    } else if (event.key === "?") {
      showKeys();
    } else if (event.key in LINKS) {
      const link = document.querySelector(`#view a[rel=${LINKS[event.key]}]`);
      if (link === null) return;
      event.preventDefault();
      link.click();
    }
  });
}
