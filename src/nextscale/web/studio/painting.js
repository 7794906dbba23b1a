// Paint over an image. `element` is the Gradio component; its canvas is replaced with every new image.
let last = null;

function place(canvas, event) {
  const box = canvas.getBoundingClientRect();
  return [((event.clientX - box.left) * canvas.width) / box.width, ((event.clientY - box.top) * canvas.height) / box.height];
}

function stroke(canvas, from, to) {
  const pen = canvas.getContext("2d");
  pen.globalCompositeOperation = element.querySelector(".ns-erase").checked ? "destination-out" : "source-over";
  pen.strokeStyle = "#fff";
  pen.lineWidth = (canvas.width * element.querySelector(".ns-brush").value) / 100;
  pen.lineCap = pen.lineJoin = "round";
  pen.beginPath();
  pen.moveTo(...from);
  pen.lineTo(...to);
  pen.stroke();
}

element.addEventListener("pointerdown", (event) => {
  const canvas = event.target;
  if (canvas.tagName !== "CANVAS") return;
  event.preventDefault();
  canvas.setPointerCapture(event.pointerId);
  last = place(canvas, event);
  stroke(canvas, last, last);
});
element.addEventListener("pointermove", (event) => {
  if (last === null) return;
  const next = place(event.target, event);
  stroke(event.target, last, next);
  last = next;
});
for (const end of ["pointerup", "pointercancel"]) element.addEventListener(end, () => (last = null));
element.addEventListener("click", (event) => {
  if (!event.target.closest(".ns-clear")) return;
  const canvas = element.querySelector("canvas");
  canvas.getContext("2d").clearRect(0, 0, canvas.width, canvas.height);
});
