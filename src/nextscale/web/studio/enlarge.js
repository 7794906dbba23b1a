// Show an image enlarged in a dialog when its button is pressed. Escape, or a click anywhere, closes the dialog.

const enlarged = document.createElement("dialog");
enlarged.className = "ns-enlarged";
enlarged.innerHTML = '<img alt=""><p></p><form method="dialog"><button aria-label="Close">×</button></form>';
(document.querySelector(".gradio-container") ?? document.body).append(enlarged);
enlarged.addEventListener("click", () => enlarged.close());
document.addEventListener("click", (event) => {
  const shown = event.target.closest?.(".ns-enlarge")?.querySelector("img");
  if (!shown) return;
  const image = enlarged.querySelector("img");
  image.src = shown.src;
  image.alt = enlarged.ariaLabel = shown.alt;
  image.className = shown.className;
  image.style.setProperty("--ratio", shown.naturalWidth / shown.naturalHeight);
  enlarged.querySelector("p").textContent = `${shown.alt}, ${shown.naturalWidth} × ${shown.naturalHeight} pixels`;
  enlarged.showModal();
});
