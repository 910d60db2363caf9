// The keyboard outside of input fields. The arrows follow the links that a view marks with rel="prev", "next" and "up";
// a key that comes while a page loads waits for that page's links.

const LINKS = { ArrowLeft: "prev", ArrowRight: "next", u: "up" };

/** settled: resolves once the page of the address is on display. */
export function setUpKeys(settled) {
  const dialog = document.getElementById("keys");
  const showKeys = () => { if (!dialog.open) dialog.showModal(); };
  document.getElementById("keys-button").addEventListener("click", showKeys);
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); }); // beside the dialog

  let followed = Promise.resolve(); // one key after the other
  const view = document.getElementById("view");
  const link = (key) => view.querySelector(`a[rel=${LINKS[key]}]`);
  const follow = async (key) => {
    await settled();
    const found = link(key);
    if (found !== null) location.href = found.href; // at once, where a click changes the address a moment later
  };

  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || dialog.open) return;
    if (event.target.closest("input, select, textarea")) return;
    if (event.key === "/") {
      event.preventDefault();
      document.getElementById("goto").focus();
    } else if (event.key === "?") {
      showKeys();
    } else if (event.key in LINKS) {
      if (link(event.key) === null && view.ariaBusy !== "true") return;
      event.preventDefault();
      followed = followed.then(() => follow(event.key));
    }
  });
}
