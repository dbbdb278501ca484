"use strict";
// Draws the curves with uPlot. Colours come from the style sheet's scheme, so charts are redrawn when it changes.
(() => {
  const LIGHT = ["#0b5fa5", "#a33f00", "#1a6b32", "#7b3fa0", "#8a6100", "#b3261e", "#37474f"];
  const DARK = ["#6fb7f2", "#f0a070", "#7fce93", "#cfa4f0", "#e6bd5c", "#ff9d94", "#b7c4cb"];
  const DASHES = [[], [6, 4], [2, 3], [8, 3, 2, 3]];
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const drawn = new Map();

  const written = (value) => {
    if (value == null) return "–";
    const size = Math.abs(value);
    if (size >= 10000) return value.toLocaleString("en", { maximumFractionDigits: 0 });
    return size !== 0 && size < 0.001 ? value.toExponential(1) : String(Number(value.toPrecision(4)));
  };

  const tick = (value) => (Math.abs(value) >= 10000 ? `${Number((value / 1000).toPrecision(4))}k` : written(value));

  // Lines have steps of their own; uPlot wants one x for all, with gaps it then spans.
  function align(lines) {
    const steps = [...new Set(lines.flatMap((line) => line.x))].sort((a, b) => a - b);
    const place = new Map(steps.map((step, i) => [step, i]));
    const spread = (x, values) => {
      const column = new Array(steps.length).fill(undefined);
      x.forEach((step, i) => { column[place.get(step)] = values[i]; });
      return column;
    };
    return [steps, spread];
  }

  function options(chart, stage, width, palette) {
    const ink = getComputedStyle(document.body).color;
    const grid = dark.matches ? "#41444a" : "#d3d2cb";
    const names = [...new Set(chart.lines.map((line) => line.name))];
    // Votes lie on pass@1 where both are equal: drawn below it and wider, they show on both sides of it.
    const vote = (line) => line.name.startsWith("cons@");
    const lines = [...chart.lines.filter(vote), ...chart.lines.filter((line) => !vote(line))];
    const runs = stage.runs;
    const [steps, spread] = align(chart.lines);
    const data = [steps];
    const series = [{ label: "step", value: (_, v) => written(v) }];
    const bands = [];
    for (const line of lines) {
      const colour = palette[names.indexOf(line.name) % palette.length];
      const dash = DASHES[runs.indexOf(line.run) % DASHES.length];
      const label = runs.length > 1 ? `${line.name} · ${line.run}` : line.name;
      const edges = line.low ? { low: spread(line.x, line.low), high: spread(line.x, line.high) } : null;
      const column = spread(line.x, line.y);
      // A line that has no point at this step shows its last one before, and says of which step it is.
      const value = (_, __, ___, i) => {
        let at = i;
        while (at != null && at >= 0 && column[at] == null) at -= 1;
        if (at == null || at < 0) return "–";
        const between = edges ? ` [${written(edges.low[at])}, ${written(edges.high[at])}]` : "";
        return written(column[at]) + between + (at === i ? "" : ` at ${steps[at]}`);
      };
      data.push(column);
      series.push({ label, stroke: vote(line) ? colour + "99" : colour, width: vote(line) ? 5 : 1.6, dash, spanGaps: true, value, points: { show: line.x.length < 30, size: 5 } });
      if (edges) {
        for (const edge of ["high", "low"]) {
          data.push(edges[edge]);
          series.push({ label: edge, stroke: "transparent", width: 0, spanGaps: true, points: { show: false }, class: "edge" });
        }
        bands.push({ series: [data.length - 2, data.length - 1], fill: colour + "33" });
      }
    }
    const rest = (u) => u.cursor.idx == null && u.setLegend({ idx: steps.length - 1 });
    const marks = {
      hooks: {
        ready: rest,
        setCursor: rest,
        drawClear: (u) => {
          u.ctx.save();
          u.ctx.strokeStyle = dark.matches ? "#8a8880" : "#8f8d85";
          u.ctx.setLineDash([3, 4]);
          for (const mark of stage.marks) {
            const x = Math.round(u.valToPos(mark.step, "x", true));
            u.ctx.beginPath();
            u.ctx.moveTo(x, u.bbox.top);
            u.ctx.lineTo(x, u.bbox.top + u.bbox.height);
            u.ctx.stroke();
          }
          u.ctx.restore();
        },
      },
    };
    const axis = { stroke: ink, grid: { stroke: grid, width: 1 }, ticks: { stroke: grid, width: 1 }, font: "11px system-ui, sans-serif" };
    // As wide as its longest label, which is known once the ticks are.
    const room = (u, labels) => {
      u.ctx.save();
      u.ctx.font = u.axes[1].font[0];
      const widest = Math.max(0, ...(labels ?? []).map((label) => u.ctx.measureText(label).width)) / devicePixelRatio;
      u.ctx.restore();
      return Math.max(46, Math.ceil(widest) + 22);
    };
    const range = (_, low, high) => {
      if (low == null) return [0, 1];
      if (chart.unit.startsWith("share")) return [0, Math.max(0.05, Math.min(1.03, high * 1.1))];
      return low >= 0 ? [0, high > 0 ? high * 1.08 : 1] : [low - (high - low) * 0.08, high + (high - low) * 0.08];
    };
    return [{
      width, height: 190, series, bands,
      padding: [8, 14, 0, 0],
      scales: { x: { time: false }, y: { range } },
      axes: [{ ...axis, size: 26, gap: 2 }, { ...axis, size: room, values: (_, ticks) => ticks.map(tick) }],
      cursor: { sync: { key: stage.id }, drag: { x: true, y: false } },
      legend: { live: true, markers: { fill: (u, i) => u.series[i].stroke(), width: 0 } },
      plugins: [marks],
    }, data];
  }

  function draw(holder) {
    const stage = window.reportCurves[holder.dataset.stage];
    const chart = stage.charts[Number(holder.dataset.chart)];
    drawn.get(holder)?.destroy();
    const [settings, data] = options(chart, stage, holder.clientWidth, dark.matches ? DARK : LIGHT);
    const plot = new uPlot(settings, data, holder);
    holder.querySelectorAll("tr.edge").forEach((row) => row.remove());
    drawn.set(holder, plot);
  }

  // The arrow keys move the cursor as the mouse would.
  function step(event) {
    const plot = drawn.get(event.currentTarget);
    const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!plot || !move) return;
    event.preventDefault();
    const last = plot.data[0].length - 1;
    const at = Math.max(0, Math.min(last, (plot.cursor.idx ?? (move > 0 ? -1 : last + 1)) + move));
    plot.setCursor({ left: plot.valToPos(plot.data[0][at], "x"), top: 1 });
  }

  const source = document.getElementById("data-curves");
  if (!source) return;
  window.reportCurves = JSON.parse(source.textContent);
  const holders = [...document.querySelectorAll(".plot")];
  const sizes = new ResizeObserver((entries) => {
    for (const { target } of entries) {
      const plot = drawn.get(target);
      if (plot && plot.width !== target.clientWidth) plot.setSize({ width: target.clientWidth, height: 190 });
    }
  });
  for (const holder of holders) {
    draw(holder);
    holder.addEventListener("keydown", step);
    sizes.observe(holder);
  }
  dark.addEventListener("change", () => holders.forEach(draw));
})();
