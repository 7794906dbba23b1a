// For the whole page: what Gradio's controls lack.

// Buttons that take a class away say which one.
function nameButtons() {
  for (const button of document.querySelectorAll(".token > .token-remove")) {
    const name = `Remove ${button.parentElement.textContent.trim()}`;
    if (button.ariaLabel !== name) button.ariaLabel = name;
  }
}
new MutationObserver(nameButtons).observe(document.body, { childList: true, subtree: true, characterData: true });
nameButtons();

// A slider's number that is out of range, or empty, stays for the server to refuse: Gradio would change it on leaving.
function keepTyped(event) {
  const { value, validity, dataset } = event.target;
  if (dataset?.testid !== "number-input") return;
  if (value === "" || validity.rangeUnderflow || validity.rangeOverflow) event.stopPropagation();
}
document.addEventListener("blur", keepTyped, true);
