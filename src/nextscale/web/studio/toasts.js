// Errors, which Gradio shows as toasts: remove them at the next action, and when their time is over.
// A toast without a time, such as that of a lost connection, stays.

function closeToasts() {
  for (const toast of document.querySelectorAll(".toast-body"))
    if (toast.querySelector(".timer")) toast.querySelector(".toast-close")?.click();
}
function isAction(event) {
  if (event.target.closest(".toast-body")) return false;
  return event.type === "click" ? event.target.closest("button") : event.key === "Enter";
}
for (const kind of ["click", "keydown"])
  document.addEventListener(kind, (event) => event.isTrusted && isAction(event) && closeToasts(), true);

// Gradio makes a button of the toast's header, which contains another button.
new MutationObserver(() => {
  for (const header of document.querySelectorAll(".toast-header[role]")) {
    header.removeAttribute("role");
    header.removeAttribute("tabindex");
  }
}).observe(document.body, { childList: true, subtree: true });
