// Upload a file that is dropped on a tab with an upload button. Elsewhere, the browser would leave the page to open it.

function uploadOf(event) {
  return event.target.closest?.('[role="tabpanel"]')?.querySelector('input[type="file"]');
}
function bringsFiles(event) {
  return event.dataTransfer?.types.includes("Files");
}
function markTarget(input) {
  for (const marked of document.querySelectorAll(".ns-dropping")) marked.classList.remove("ns-dropping");
  input?.parentElement.querySelector(".ns-upload")?.classList.add("ns-dropping");
}
document.addEventListener("dragover", (event) => {
  if (!bringsFiles(event)) return;
  event.preventDefault();
  const input = uploadOf(event);
  event.dataTransfer.dropEffect = input ? "copy" : "none";
  markTarget(input);
});
document.addEventListener("dragleave", (event) => event.relatedTarget === null && markTarget(null));
document.addEventListener("drop", (event) => {
  if (!bringsFiles(event)) return;
  event.preventDefault();
  markTarget(null);
  const input = uploadOf(event);
  if (!input || !event.dataTransfer.files.length) return;
  const first = new DataTransfer();
  first.items.add(event.dataTransfer.files[0]);
  input.files = first.files;
  input.dispatchEvent(new Event("change", { bubbles: true }));
});
