"use strict";
// The rollout viewer. What models wrote only ever becomes text nodes.
(() => {
  const section = document.getElementById("rollouts");
  const source = document.getElementById("data-rollouts");
  if (!source) return;
  const PAGE = 20;
  const find = (name) => section.querySelector(`[name="${name}"]`);
  const status = section.querySelector("[role=status]");
  const list = section.querySelector(".cards");
  const columns = section.querySelector(".columns");
  const reflection = new RegExp(source.dataset.reflection, "gi");
  const VERDICTS = {
    correct: ["right", "✓ right"], wrong: ["wrong", "✗ wrong"], no_answer: ["none", "∅ no answer found"],
    gold_unusable: ["open", "? own answer unusable"], scorer_failed: ["open", "? scorer failed"],
    quality: ["open", "graded"], "not judged": ["open", "not judged"],
  };
  let rows = [], questions = [], matching = [], page = 0;

  function element(name, className, text) {
    const made = document.createElement(name);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  }

  async function unpack() {
    if (!window.DecompressionStream) throw new Error("this browser is too old to open them (it lacks DecompressionStream)");
    const bytes = Uint8Array.from(atob(source.textContent.trim()), (c) => c.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    const data = await new Response(stream).json();
    questions = data.questions;
    data.blocks.forEach((block, number) => {
      block.number = number;
      block.text.forEach((text, place) => rows.push({
        block, place, text, question: block.question[place], reward: block.reward[place], tokens: block.tokens[place],
        outcome: VERDICTS[block.verdict[place]]?.[0] ?? "open", verdict: block.verdict[place],
        truncated: block.truncated[place] === 1, mixed: block.mixed[place] === 1, broken: block.wellFormed[place] === 0,
        again: text.search(reflection) >= 0,
      }));
    });
    return data.blocks;
  }

  // ---- One answer ----

  function marked(holder, text) {
    let end = 0;
    for (const match of text.matchAll(reflection)) {
      holder.append(text.slice(end, match.index), element("mark", "", match[0]));
      end = match.index + match[0].length;
    }
    holder.append(text.slice(end));
    return holder;
  }

  // Thinking up to the last </think>, told apart from what is said; tags are shown as they stand.
  function answerText(text) {
    const holder = element("div", "written");
    const close = text.lastIndexOf("</think>");
    const open = text.indexOf("<think>");
    const end = close >= 0 ? close + 8 : open >= 0 ? text.length : 0;
    for (const [className, label, part] of [["thinking", "thinking", text.slice(0, end)], ["answer", "answer", text.slice(end)]]) {
      if (!part.trim()) continue;
      const box = element("div", className);
      box.append(element("span", "part", label));
      for (const piece of part.split(/(<\/?(?:think|answer)>)/)) {
        if (/^<\/?(?:think|answer)>$/.test(piece)) box.append(element("span", "tag", piece));
        else if (piece) box.append(marked(element("span"), piece));
      }
      holder.append(box);
    }
    if (!text.trim()) holder.append(element("div", "answer", "(nothing)"));
    return holder;
  }

  const figure = (value) => (value == null ? "–" : String(value));

  function facts(row) {
    const line = element("div", "facts");
    const [outcome, words] = VERDICTS[row.verdict] ?? ["open", row.verdict];
    line.append(element("span", `verdict ${outcome}`, words));
    const said = [`reward ${figure(row.reward)}`, `${row.tokens} tokens`];
    for (const [name, values] of Object.entries(row.block.rewards)) {
      if (values[row.place] != null) said.push(`${name} ${figure(values[row.place])}`);
    }
    if (row.truncated) said.push("cut at the limit");
    if (row.mixed) said.push("mixes languages");
    if (row.broken) said.push("not well formed");
    line.append(" ", element("span", "soft", said.join(" · ")));
    return line;
  }

  function questionLine(number) {
    const question = questions[number];
    const line = element("div", "question", question.text);
    if (question.answer != null) line.append(element("span", "gold", `answer: ${question.answer}`));
    return line;
  }

  function card(row) {
    const item = element("li", "card");
    const head = element("div", "card-head");
    head.append(element("strong", "", row.block.label), " ", element("span", "soft", row.block.set));
    if (row.block.kind !== "training") {
      const beside = element("button", "link", "side by side");
      beside.type = "button";
      beside.addEventListener("click", () => { show("beside"); compareOn(row.question); });
      head.append(" ", beside);
    }
    item.append(head, questionLine(row.question), facts(row), answerText(row.text));
    return item;
  }

  // ---- Browsing ----

  function filter() {
    const started = performance.now();
    const by = find("by").value, set = find("set").value, outcome = find("outcome").value, order = find("order").value;
    const flags = ["truncated", "mixed", "broken", "again"].filter((name) => find(name).checked);
    const words = find("words").value.toLowerCase();
    matching = rows.filter((row) =>
      (!by || by === row.block.kind || by === String(row.block.number) || by === row.block.label)
      && (!set || set === row.block.set)
      && (!outcome || outcome === row.outcome)
      && flags.every((name) => row[name])
      && (!words || (row.searched ??= `${row.text}\n${questions[row.question].text}`.toLowerCase()).includes(words)));
    const key = { high: (r) => -(r.reward ?? -Infinity), low: (r) => r.reward ?? Infinity, long: (r) => -r.tokens, short: (r) => r.tokens }[order];
    if (key) {
      const keys = new Map(matching.map((row) => [row, key(row)]));
      matching.sort((a, b) => keys.get(a) - keys.get(b) || 0);
    }
    page = 0;
    draw();
    const took = Math.max(1, Math.round(performance.now() - started));
    status.textContent = `${matching.length.toLocaleString("en")} of ${rows.length.toLocaleString("en")} answers, found in ${took} ms`;
  }

  function draw() {
    const pages = Math.max(1, Math.ceil(matching.length / PAGE));
    list.replaceChildren(...matching.slice(page * PAGE, (page + 1) * PAGE).map(card));
    section.querySelector(".page").textContent = `page ${page + 1} of ${pages.toLocaleString("en")}`;
    find("back").disabled = page === 0;
    find("on").disabled = page + 1 >= pages;
  }

  // ---- Side by side ----

  function compareOn(number) {
    const chooser = find("question");
    chooser.value = String(number);
    const found = new Map();
    for (const row of rows) {
      if (row.question !== number) continue;
      if (!found.has(row.block)) found.set(row.block, []);
      found.get(row.block).push(row);
    }
    section.querySelector(".asked").replaceChildren(questionLine(number));
    columns.replaceChildren(...[...found].map(([block, answers]) => column(block, answers)));
    find("earlier").disabled = chooser.selectedIndex <= 0;
    find("later").disabled = chooser.selectedIndex >= chooser.options.length - 1;
  }

  function column(block, answers) {
    const item = element("li", "card");
    const right = answers.filter((row) => row.outcome === "right").length;
    const judged = answers.some((row) => row.outcome === "right" || row.outcome === "wrong");
    const head = element("div", "card-head");
    head.append(element("strong", "", block.label));
    if (judged) head.append(" ", element("span", "soft", `${right} of ${answers.length} right`));
    const body = element("div");
    let at = 0;
    const place = element("span", "soft small");
    const turn = (by) => {
      at = (at + by + answers.length) % answers.length;
      place.textContent = ` sample ${at + 1} of ${answers.length} `;
      body.replaceChildren(facts(answers[at]), answerText(answers[at].text));
    };
    const buttons = element("div", "turn");
    for (const [words, by, what] of [["‹", -1, "previous"], ["›", 1, "next"]]) {
      const button = element("button", "", words);
      button.type = "button";
      button.disabled = answers.length < 2;
      button.setAttribute("aria-label", `${what} sample of ${block.label}`);
      button.addEventListener("click", () => turn(by));
      buttons.append(button);
    }
    buttons.firstChild.after(place);
    turn(0);
    item.append(head, buttons, body);
    return item;
  }

  function show(view) {
    for (const button of section.querySelectorAll(".views button")) {
      const on = button.value === view;
      button.setAttribute("aria-pressed", String(on));
      document.getElementById(`view-${button.value}`).hidden = !on;
    }
    if (view === "beside" && !columns.childElementCount) compareOn(Number(find("question").value));
  }

  function fillChoices(blocks) {
    const by = find("by");
    const kinds = { rung: "Rungs, on held-out questions", heldout: "While training, on held-out questions", training: "Training rollouts" };
    for (const [kind, title] of Object.entries(kinds)) {
      const members = [...new Set(blocks.filter((block) => block.kind === kind).map((block) => block.label))];
      if (!members.length) continue;
      const group = element("optgroup");
      group.label = title;
      const all = element("option", "", "all of these");
      all.value = kind;
      group.append(all, ...members.map((label) => { const o = element("option", "", label); o.value = label; return o; }));
      by.append(group);
    }
    for (const name of new Set(blocks.map((block) => block.set))) find("set").append(element("option", "", name));
    const heldOut = new Set(blocks.filter((block) => block.kind !== "training").flatMap((block) => block.question));
    for (const number of heldOut) {
      const option = element("option", "", questions[number].text.slice(0, 90));
      option.value = String(number);
      find("question").append(option);
    }
    section.querySelector('.views button[value="beside"]').hidden = heldOut.size === 0;
  }

  function start(blocks) {
    fillChoices(blocks);
    section.querySelector(".filters").addEventListener("input", filter);
    section.querySelector(".filters").addEventListener("submit", (event) => event.preventDefault());
    const leaf = (by) => () => { page += by; draw(); list.scrollIntoView({ block: "nearest" }); };
    find("back").addEventListener("click", leaf(-1));
    find("on").addEventListener("click", leaf(1));
    const chooser = find("question");
    chooser.addEventListener("input", () => compareOn(Number(chooser.value)));
    const walk = (by) => () => { chooser.selectedIndex += by; compareOn(Number(chooser.value)); };
    find("earlier").addEventListener("click", walk(-1));
    find("later").addEventListener("click", walk(1));
    for (const button of section.querySelectorAll(".views button")) button.addEventListener("click", () => show(button.value));
    filter();
    section.dataset.ready = "yes";
  }

  unpack().then(start, (error) => { status.textContent = `The answers cannot be shown: ${error.message}`; });
})();
