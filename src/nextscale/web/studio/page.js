// Additions to Gradio's controls, for the whole page.

// Label the buttons that remove a class with its name.
function nameButtons() {
  for (const button of document.querySelectorAll(".token > .token-remove")) {
    const name = `Remove ${button.parentElement.textContent.trim()}`;
    if (button.ariaLabel !== name) button.ariaLabel = name;
  }
}
new MutationObserver(nameButtons).observe(document.body, { childList: true, subtree: true, characterData: true });
nameButtons();

// Keep a slider's number that is empty or out of range, so that the server refuses it. Gradio would change it on blur.
function keepTyped(event) {
  const { value, validity, dataset } = event.target;
  if (dataset?.testid !== "number-input") return;
  if (value === "" || validity.rangeUnderflow || validity.rangeOverflow) event.stopPropagation();
}
document.addEventListener("blur", keepTyped, true);
