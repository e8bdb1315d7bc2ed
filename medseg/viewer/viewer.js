// What the controls beside the picture do. NiiVue draws; volume 0 is the scan, the others are label maps.

const about = JSON.parse(document.getElementById("about").textContent);
const byId = id => document.getElementById(id);
const viewer = new niivue.Niivue({
  isRadiologicalConvention: true, isNearestInterpolation: true, backColor: [0, 0, 0, 1], show3Dcrosshair: true,
  crosshairColor: [1, 1, 1, 0.6], crosshairWidth: 0.35, crosshairWidthUnit: "percent", crosshairGap: 4,
  dragAndDropEnabled: false, multiplanarForceRender: true, multiplanarLayout: 2, multiplanarEqualSize: true, sagittalNoseLeft: true,
  showAllOrientationMarkers: true, fontMinPx: 16, isOrientationTextVisible: about.unit === "mm", logLevel: "error",
});
const hidden = about.maps.map(() => new Set());

function colours(map) {
  const labels = about.maps[map].labels;
  const channel = which => [0, ...labels.map(label => label.colour[which])];
  return {
    R: channel(0), G: channel(1), B: channel(2), I: [0, ...labels.map((_, place) => place + 1)],
    A: [0, ...labels.map((_, place) => hidden[map].has(place + 1) ? 0 : 255)],
    labels: ["", ...labels.map(label => label.name)],
  };
}

function paint(map) {
  viewer.volumes[map + 1].setColormapLabel(colours(map));
  viewer.updateGLVolume();
}

function tell(at) {
  const place = [...at.mm].slice(0, 3);
  // Columns and rows of a photograph run to the left and to the back.
  byId("position").textContent = about.unit === "mm"
    ? place.map(mm => `${mm.toFixed(1)} mm`).join(", ") : place.slice(0, 2).map(px => Math.round(-px)).join(", ");
  if (!about.colour) byId("value").textContent = `${+viewer.volumes[0].getValue(...at.vox).toPrecision(6)}`;
  about.maps.forEach((map, number) => {
    const found = viewer.volumes[number + 1].getValue(...at.vox);
    byId(`label-${number}`).textContent = found > 0 ? map.labels[found - 1].name : "background";
  });
}

function goTo(place) {
  viewer.scene.crosshairPos = viewer.mm2frac(place);
  viewer.drawScene();
  viewer.createOnLocationChange();
}

function shade(black, white) {
  const scan = viewer.volumes[0];
  if (!(white > black)) return;
  [scan.cal_min, scan.cal_max] = [black, white];
  viewer.updateGLVolume();
}

function connectWindow() {
  if (about.colour) return;
  const [preset, black, white] = ["preset", "black", "white"].map(byId);
  const set = ([low, high]) => {
    [black.value, white.value] = [low, high].map(edge => +edge.toPrecision(6));
    shade(low, high);
  };
  preset.addEventListener("change", () => set(about.windows[preset.value] || about.window));
  for (const edge of [black, white]) edge.addEventListener("change", () => shade(+black.value, +white.value));
  set(about.window);
}

function connectView() {
  const kinds = { "planes and 3D": "Multiplanar", axial: "Axial", coronal: "Coronal", sagittal: "Sagittal", "3D": "Render" };
  if (about.flat) {
    viewer.setSliceType(viewer.sliceTypeAxial);
    return;
  }
  const list = byId("view");
  list.append(...Object.keys(kinds).map(name => new Option(name)));
  list.addEventListener("change", () => viewer.setSliceType(viewer[`sliceType${kinds[list.value]}`]));
  viewer.setSliceType(viewer.sliceTypeMultiplanar);
}

function connectLegend() {
  for (const box of document.querySelectorAll("input[data-place]")) box.addEventListener("change", () => {
    const [map, place] = [+box.dataset.map, +box.dataset.place];
    if (box.checked) hidden[map].delete(place); else hidden[map].add(place);
    paint(map);
  });
  for (const button of document.querySelectorAll("button[data-show]")) button.addEventListener("click", () => {
    const map = +button.dataset.map;
    for (const box of document.querySelectorAll(`input[data-map="${map}"]`)) {
      box.checked = button.dataset.show === "all";
      if (box.checked) hidden[map].delete(+box.dataset.place); else hidden[map].add(+box.dataset.place);
    }
    paint(map);
  });
  for (const button of document.querySelectorAll("button.go")) button.addEventListener("click", () =>
    goTo(about.maps[+button.dataset.map].labels[+button.dataset.place - 1].inside));
  const opacity = byId("opacity");
  if (opacity) opacity.addEventListener("input", () =>
    about.maps.forEach((_, map) => viewer.setOpacity(map + 1, +opacity.value)));
}

async function open() {
  await viewer.attachToCanvas(byId("canvas"));
  const load = (id, more) => niivue.NVImage.loadFromBase64({ base64: byId(id).textContent, name: `${id}.nii.gz`, ...more });
  const [low, high] = about.window;
  viewer.addVolume(await load("scan", about.colour ? {} : { cal_min: low, cal_max: high }));
  for (const number of about.maps.keys()) {
    const map = await load(`map-${number}`, { opacity: 0.5 });
    map.setColormapLabel(colours(number));
    viewer.addVolume(map);
  }
  viewer.onLocationChange = tell;
  connectView();
  connectWindow();
  connectLegend();
  viewer.createOnLocationChange();
  document.body.dataset.ready = "yes";
}

open().catch(error => {
  const words = document.createElement("p");
  words.textContent = `This browser cannot show the scan (WebGL 2 is needed): ${error.message}`;
  document.querySelector("main").replaceChildren(words);
});
