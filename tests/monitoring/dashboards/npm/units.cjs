// Print every unit that Grafana knows, as JSON.
globalThis.navigator ??= { language: "en", languages: ["en"] }; // the package expects a browser
const { getValueFormats } = require("@grafana/data");

const units = getValueFormats().flatMap((category) => category.submenu.map((unit) => unit.value));
console.log(JSON.stringify(units));
