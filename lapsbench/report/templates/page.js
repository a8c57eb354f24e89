// Paper cannot be unfolded.
addEventListener("beforeprint", () => {
  for (const folded of document.querySelectorAll(".run details")) { folded.open = true; }
});
// Draw every plot with the code in this file; say on the page when one cannot be drawn.
const night = matchMedia("(prefers-color-scheme: dark)").matches;
const plots = [...document.querySelectorAll("script[data-plot]")].map((source) => {
  const place = document.getElementById(source.dataset.plot);
  return vegaEmbed(place, JSON.parse(source.textContent), {
    actions: false,
    renderer: "svg",
    tooltip: { theme: night ? "dark" : "light" },
  }).then(
    () => { place.dataset.state = "drawn"; },
    (error) => { place.dataset.state = "failed"; place.textContent = `This plot cannot be drawn: ${error.message}`; },
  );
});
Promise.all(plots).then(() => { document.documentElement.dataset.plots = "done"; });
