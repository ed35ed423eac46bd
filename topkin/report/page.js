// What can be looked up in the page, drawn on demand from the JSON in it. No library, no network but topkin serve's own.
"use strict";
(() => {
  const source = document.getElementById("topkin-data");
  if (!source) return;
  const data = JSON.parse(source.textContent);
  const api = document.documentElement.dataset.api;
  const items = data.items, users = data.users, held = items.id.length;
  const byId = (ids) => { let m = null; return (id) => (m ??= new Map(ids.map((x, n) => [x, n]))).get(id); };
  const itemAt = byId(items.id), userAt = users ? byId(users.id) : () => undefined;
  const $ = (id) => document.getElementById(id);
  const number = (n) => n.toLocaleString("en");
  const plural = (n, word) => `${number(n)} ${word}${n === 1 ? "" : "s"}`;

  // ---- what the page holds, as records; topkin serve answers with the same ones
  const named = (n) => n < held
    ? { id: items.id[n], title: items.title[n], picture: items.picture && items.picture[n] }
    : { id: data.named.id[n - held], title: data.named.title[n - held], beyond: true };
  const pairs = (flat, make) => {
    const found = [];
    for (let i = 0; i < flat.length; i += 2) found.push({ ...make(flat[i]), score: flat[i + 1] });
    return found;
  };
  const gone = new Set(items.gone || []);
  function itemRecord(n) {
    const told = [];
    if (items.events && users) {
      told.push(`sold ${plural(items.events[n], "time")} to ${plural(items.users[n], "customer")}`);
      if (items.recent && data.timed) told.push(`${number(items.recent[n])} of them lately`);
    }
    if (items.group[n] >= 0) told.push(`${data.kind} ${data.groups[items.group[n]]}`);
    if (items.price && items.price[n] !== null) told.push(`price ${items.price[n]}`);
    if (gone.has(n)) told.push("not available");
    return { ...named(n), told, more: items.more ? items.more[n] : [], near: pairs(items.near[n], named) };
  }
  const day = (n) => new Date(n * 864e5).toLocaleDateString("en-GB", { day: "numeric", month: "short", year: "numeric", timeZone: "UTC" });
  function userRecord(n) {
    return {
      id: users.id[n],
      segment: users.segment[n] < 0 ? null : users.segments[users.segment[n]],
      purchases: users.purchases[n],
      later: users.later[n],
      history: users.history[n].map(([i, times, last]) => ({ ...named(i), times, last: last === undefined ? null : day(last) })),
      list: users.list[n].map(([i, score, from, bought, later, because, done]) => ({
        ...named(i), score, source: users.sources[from], bought, later,
        because: because.map((b, j) => (named(b).title || named(b).id) + (done ? done[j] : "")),
      })),
      near: users.near ? pairs(users.near[n], (u) => ({ id: typeof u === "number" ? users.id[u] : u, beyond: typeof u !== "number" })) : [],
    };
  }

  // ---- drawing: texts are set as texts, never read as HTML
  function make(tag, attributes, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) if (value !== undefined) element.setAttribute(name, value);
    element.append(...children.filter((c) => c !== null && c !== undefined && c !== ""));
    return element;
  }
  const link = (kind, of) => {
    const text = make("bdi", null, of.title || of.id);
    return of.beyond && !api ? text : make("a", { href: `#${kind}=${encodeURIComponent(of.id)}` }, text);
  };
  const picture = (of, size) => of.picture ? make("img", { src: of.picture, alt: "", width: size, height: size }) : null;
  function table(caption, heads, rows) {
    if (!rows.length) return null;
    const row = (cells, tag) => make("tr", null, ...cells.map((c, n) =>
      make(tag, { class: heads[n].startsWith(">") ? "n" : "title", ...(tag === "th" ? { scope: "col" } : {}) }, ...[c].flat())));
    return make("div", { class: "wide", tabindex: "0", role: "group", "aria-label": caption }, make("table", { class: "fits" },
      make("caption", null, caption), make("thead", null, row(heads.map((h) => h.replace(">", "")), "th")),
      make("tbody", null, ...rows.map((r) => row(r, "td")))));
  }
  function drawItem(of) {
    return [
      make("h3", { tabindex: "-1" }, "Item ", make("bdi", null, of.title || of.id)),
      make("p", { class: "small soft" }, make("code", null, of.id), of.told.length ? `, ${of.told.join(", ")}` : "", of.title ? "" : "; it has no title"),
      picture(of, 96),
      of.more.length ? make("ul", { class: "more small" }, ...of.more.map((m) => make("li", null, make("bdi", null, m)))) : null,
      table(users ? "Its neighbours: bought by the same customers, or alike" : "Its neighbours", ["Item", ">Cosine"],
        of.near.map((o) => [[picture(o, 32), link("item", o)], o.score.toFixed(3)])) || make("p", null, "It has no neighbours."),
    ];
  }
  function drawUser(of) {
    const timed = of.history.some((h) => h.last), later = of.list.some((l) => l.later);
    const why = (l) => l.bought ? `bought ${plural(l.bought, "time")} before` : l.because.length ? `because of ${l.because.join("; ")}` : "";
    const from = (l) => l.source === "model" ? l.score.toFixed(3) : number(l.score);
    const rows = of.list.map((l, n) => [String(n + 1), [picture(l, 32), link("item", l), make("div", { class: "because" }, make("bdi", null, why(l)))], from(l),
      ...(later ? [l.later ? "✓ bought" : ""] : [])]);
    const sources = [...new Set(of.list.map((l) => l.source))].filter((s) => s !== "model");
    return [
      make("h3", { tabindex: "-1" }, "Customer ", make("bdi", null, of.id)),
      make("p", { class: "small soft" }, of.segment ? make("bdi", null, `${of.segment}, `) : "", of.purchases ? plural(of.purchases, "purchase") : "no purchases before the date",
        of.later ? `; ${plural(of.later, "item")} bought after the date` : "", sources.length ? `; ranked by ${sources.join(", ").replaceAll("_", " ")}, where the score counts purchases` : ""),
      make("div", { class: "pair" },
        make("div", null, table("Recommended", [">Rank", "Item", ">Score", ...(later ? [">Later"] : [])], rows) || make("p", null, "No list."),),
        make("div", null,
          table("Bought, latest first", ["Item", ">Times", ...(timed ? [">Last"] : [])], of.history.map((h) => [[picture(h, 32), link("item", h)], number(h.times), ...(timed ? [h.last] : [])])),
          table("Customers alike", ["Customer", ">Cosine"], of.near.map((u) => [[link("user", u)], u.score.toFixed(3)])))),
    ];
  }

  // ---- the look-up: a search box with a list below it, the record in the address so that the browser goes back
  const found = $("found"), box = $("search"), list = $("hits"), told = $("search-status");
  const low = (texts) => { let made = null; return () => (made ??= texts.map((t) => t.toLowerCase())); };
  const fields = [["item", low(items.id), low(items.title)], ["user", low(users ? users.id : []), null]];
  const MOST = 12;
  function matches(text) {
    const words = text.toLowerCase().split(/\s+/).filter(Boolean), whole = words.join(" ");
    const hits = [[], [], []];
    if (!words.length) return [];
    for (const [kind, ids, titles] of fields) {
      const id = ids(), title = titles && titles();
      for (let n = 0; n < id.length; n++) {
        const place = id[n] === whole ? 0 : id[n].startsWith(whole) || (title && title[n].startsWith(whole)) ? 1
          : title && words.every((w) => title[n].includes(w)) ? 2 : -1;
        if (place >= 0) hits[place].push([kind, n]);
      }
    }
    return hits.flat().map(([kind, n]) => kind === "item" ? { kind, id: items.id[n], title: items.title[n] } : { kind, id: users.id[n], title: "" });
  }
  let shown = [], at = -1, asked = 0, followed = 0;
  function close() { shown = []; at = -1; list.replaceChildren(); list.hidden = true; box.setAttribute("aria-expanded", "false"); box.removeAttribute("aria-activedescendant"); }
  function offer(hits, whole) {
    close();
    shown = hits.slice(0, MOST);
    const less = hits.length > MOST ? `${MOST} of ${number(hits.length)}` : number(hits.length);
    told.textContent = hits.length ? `${less} found: arrow keys choose, Enter opens` : whole ? "" : api ? "nothing found" : "nothing found among those that the page holds";
    if (!shown.length) return;
    list.replaceChildren(...shown.map((h, n) => {
      const option = make("li", { role: "option", id: `hit-${n}`, "aria-selected": "false" },
        make("span", { class: "because" }, h.kind === "item" ? "item " : "customer "), make("bdi", null, h.title || h.id), h.title ? make("span", { class: "because" }, ` ${h.id}`) : "");
      option.addEventListener("mousedown", (e) => { e.preventDefault(); open(h); });
      return option;
    }));
    list.hidden = false;
    box.setAttribute("aria-expanded", "true");
  }
  async function search() {
    const text = box.value.trim(), turn = ++asked;
    if (!api || !text) return offer(matches(text), !text);
    try {
      const own = matches(text), there = new Set(own.map((h) => `${h.kind} ${h.id}`));
      const answer = await (await fetch(`${api}find?text=${encodeURIComponent(text)}`)).json();
      if (turn === asked) offer([...own, ...answer.hits.filter((h) => !there.has(`${h.kind} ${h.id}`))], false);
    } catch { if (turn === asked) told.textContent = "topkin serve does not answer: is it still running?"; }
  }
  function open(of) { box.value = of.title || of.id; close(); told.textContent = ""; location.hash = `${of.kind}=${encodeURIComponent(of.id)}`; }
  function choose(to) {
    if (!shown.length) return;
    if (at >= 0) list.children[at].setAttribute("aria-selected", "false");
    at = (to + shown.length) % shown.length;
    list.children[at].setAttribute("aria-selected", "true");
    list.children[at].scrollIntoView({ block: "nearest" });
    box.setAttribute("aria-activedescendant", `hit-${at}`);
  }
  box.addEventListener("input", search);
  box.addEventListener("blur", close);
  box.addEventListener("keydown", (e) => {
    if (e.key === "ArrowDown") { e.preventDefault(); if (shown.length) choose(at + 1); else search(); }
    else if (e.key === "ArrowUp") { e.preventDefault(); choose(at < 0 ? shown.length - 1 : at - 1); }
    else if (e.key === "Enter") { e.preventDefault(); const first = shown[Math.max(at, 0)]; if (first) open(first); }
    else if (e.key === "Escape") { if (shown.length) close(); else { box.value = ""; told.textContent = ""; } }
  });
  async function record(kind, id) {
    const n = kind === "item" ? itemAt(id) : userAt(id);
    if (n !== undefined) return kind === "item" ? itemRecord(n) : userRecord(n);
    if (!api) return null;
    const answer = await fetch(`${api}${kind}?id=${encodeURIComponent(id)}`);
    if (!answer.ok) throw new Error(answer.status);
    return answer.json();
  }
  async function follow() {
    const match = /^#(item|user)=(.*)$/.exec(location.hash);
    if (!match) { showTarget(); return; }
    let id = match[2];
    try { id = decodeURIComponent(id); } catch { /* as it is typed */ }
    let of = null, failed = "";
    const turn = ++followed;
    try { of = await record(match[1], id); } catch { failed = "topkin serve does not answer: is it still running?"; }
    if (turn !== followed) return;  // another record was asked for since
    const parts = of ? (match[1] === "item" ? drawItem(of) : drawUser(of))
      : [make("p", { tabindex: "-1" }, failed || `There is no ${match[1] === "item" ? "item" : "customer"} `, failed ? "" : make("bdi", null, id), failed ? "" : api ? "." : " among those that the page holds.")];
    found.replaceChildren(...parts.filter(Boolean));
    found.firstChild.focus({ preventScroll: true });
    $("look").scrollIntoView({ block: "start" });
    if (match[1] === "item") mark(id);
  }
  function showTarget() {  // a section of all figures opens them
    const target = location.hash.length > 1 && $(location.hash.slice(1));
    if (target && target.closest(".figures") && $("view-plain").checked) { $("view-figures").checked = true; target.scrollIntoView(); }
  }
  addEventListener("hashchange", follow);

  // ---- the map
  let mark = () => {};
  const canvas = $("map-canvas");
  if (canvas && data.map) drawMap(canvas, data.map);
  function drawMap(canvas, map) {
    const pen = canvas.getContext("2d"), n = map.item.length, last = map.names.length - 1;
    const input = $("map-search"), says = $("map-says"), legend = $("map-legend");
    const title = (i) => items.title[map.item[i]] || items.id[map.item[i]];
    const lower = low(map.item.map((i) => `${items.title[i]} ${items.id[i]}`));
    const [wide, high] = [Math.max(...map.x), Math.max(...map.y)];
    let zoom = 1, cx = wide / 2, cy = high / 2, now = -1, hits = new Set(), size = 1, height = 1;
    const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
    const place = (i) => [size / 2 + (map.x[i] - cx) * scale(), height / 2 - (map.y[i] - cy) * scale()];
    const scale = () => zoom * Math.min((size - 24) / Math.max(wide, 1), (height - 24) / Math.max(high, 1));
    const shapes = [
      (p, x, y, r) => p.arc(x, y, r, 0, 7),
      (p, x, y, r) => p.rect(x - 0.9 * r, y - 0.9 * r, 1.8 * r, 1.8 * r),
      ...[[0, -1.2, 1.1, 0.9, -1.1, 0.9], [0, -1.25, 1.25, 0, 0, 1.25, -1.25, 0], [0, 1.2, 1.1, -0.9, -1.1, -0.9],
        [-0.4, -1.2, 0.4, -1.2, 0.4, -0.4, 1.2, -0.4, 1.2, 0.4, 0.4, 0.4, 0.4, 1.2, -0.4, 1.2, -0.4, 0.4, -1.2, 0.4, -1.2, -0.4, -0.4, -0.4],
        [-1.2, -0.5, 1.2, -0.5, 1.2, 0.5, -1.2, 0.5], [-0.4, -1.2, 0.4, -1.2, 0.4, 1.2, -0.4, 1.2],
      ].map((c) => (p, x, y, r) => { for (let i = 0; i < c.length; i += 2) p.lineTo(x + c[i] * r, y + c[i + 1] * r); p.closePath(); }),
    ];
    function point(p, group, x, y, r, colours, strength = 1) {
      const rest = map.rest && group === last;
      p.fillStyle = map.ordered ? colours[0] : colours[rest ? 7 : group % 8];
      p.globalAlpha = strength * (map.ordered ? 0.3 + 0.5 * group / last : 0.8);
      p.beginPath();
      (map.ordered || rest ? shapes[0] : shapes[group % 8])(p, x, y, map.ordered ? r * (0.4 + 0.9 * group / last) : rest ? r * 0.6 : r);
      p.fill();
      p.globalAlpha = 1;
    }
    const colours = () => [...Array(8).keys()].map((c) => style(`--c${c}`));
    function draw() {
      const dense = Math.min(devicePixelRatio || 1, 2), colour = colours(), ink = style("--ink"), paper = style("--wash");
      size = canvas.clientWidth; height = Math.round(Math.max(300, Math.min(620, size * 0.62)));
      canvas.style.height = `${height}px`; canvas.width = size * dense; canvas.height = height * dense;
      pen.setTransform(dense, 0, 0, dense, 0, 0);
      pen.fillStyle = paper; pen.fillRect(0, 0, size, height);
      const r = n > 2000 ? 2.6 : 3.6;
      for (let i = n - 1; i >= 0; i--) {  // the best sold on top
        const [x, y] = place(i);
        if (x < -9 || y < -9 || x > size + 9 || y > height + 9) continue;
        point(pen, map.group[i], x, y, r * Math.min(zoom, 2) ** 0.5, colour, hits.size && !hits.has(i) ? 0.35 : 1);
      }
      const names = [...(now < 0 ? [] : [now]), ...hits, ...(hits.size ? [] : Array.from({ length: Math.min(n, 40 * zoom) }, (_, i) => i))];
      const boxes = [];
      pen.font = "12.5px system-ui, sans-serif"; pen.lineWidth = 4; pen.lineJoin = "round";
      for (const i of hits) ring(i, ink, 1.2);
      if (now >= 0) ring(now, ink, 2.2);
      for (const i of names.slice(0, 400)) {
        if (boxes.length > 60 || !(items.title[map.item[i]] || hits.has(i) || i === now)) continue;
        const text = title(i).length > 30 ? `${title(i).slice(0, 29)}…` : title(i), w = pen.measureText(text).width, [x, y] = place(i);
        const left = x + 9 + w > size ? x - 9 - w : x + 9, b = [left - 3, y - 9, left + w + 3, y + 9];
        if (left < 0 || y < 8 || y > height - 8 || boxes.some((o) => b[0] < o[2] && o[0] < b[2] && b[1] < o[3] && o[1] < b[3])) continue;
        boxes.push(b);
        pen.strokeStyle = paper; pen.strokeText(text, left, y + 4.4); pen.fillStyle = ink; pen.fillText(text, left, y + 4.4);
        if (!hits.has(i) && i !== now) ring(i, ink, 1);
      }
    }
    function ring(i, ink, width) { const [x, y] = place(i); pen.save(); pen.strokeStyle = ink; pen.lineWidth = width; pen.beginPath(); pen.arc(x, y, 6, 0, 7); pen.stroke(); pen.restore(); }
    let waiting = false;
    const later = () => { if (!waiting) { waiting = true; requestAnimationFrame(() => { waiting = false; draw(); }); } };
    function select(i, aloud) {
      if (i === now) return;
      now = i;
      says.textContent = i < 0 ? "" : `${title(i)}${items.group[map.item[i]] >= 0 ? `, ${data.groups[items.group[map.item[i]]]}` : ""}${aloud ? "; Enter looks it up" : ""}`;
      later();
    }
    function nearest(x, y, most) {
      let best = -1, least = most * most;
      for (let i = 0; i < n; i++) { const [px, py] = place(i), d = (px - x) ** 2 + (py - y) ** 2; if (d < least) { least = d; best = i; } }
      return best;
    }
    function step(dx, dy) {  // the nearest one in a direction
      if (now < 0) { select(0, true); return; }
      const [x, y] = place(now);
      let best = -1, least = Infinity;
      for (let i = 0; i < n; i++) {
        const [px, py] = place(i), along = (px - x) * dx + (py - y) * dy, across = Math.abs((px - x) * dy) + Math.abs((py - y) * dx);
        if (along > 0.5 && along + 2 * across < least) { least = along + 2 * across; best = i; }
      }
      if (best >= 0) { select(best, true); seen(best); }
    }
    function seen(i) { const [x, y] = place(i); if (x < 10 || y < 10 || x > size - 10 || y > height - 10) { cx = map.x[i]; cy = map.y[i]; later(); } }
    function zoomed(by) { zoom = Math.max(1, Math.min(40, zoom * by)); if (zoom === 1) { cx = wide / 2; cy = high / 2; } else if (now >= 0) { cx = map.x[now]; cy = map.y[now]; } later(); }
    const visit = () => { if (now >= 0) location.hash = `item=${encodeURIComponent(items.id[map.item[now]])}`; };
    mark = (id) => { const i = map.item.indexOf(itemAt(id)); if (i >= 0) { select(i); seen(i); } };
    const spot = (e) => { const b = canvas.getBoundingClientRect(); return [e.clientX - b.left, e.clientY - b.top]; };
    let drag = null;
    canvas.addEventListener("pointermove", (e) => {
      const [x, y] = spot(e);
      if (drag && zoom > 1) { cx -= (x - drag[0]) / scale(); cy += (y - drag[1]) / scale(); drag = [x, y, true]; later(); } else select(nearest(x, y, 12));
    });
    canvas.addEventListener("pointerdown", (e) => { drag = [...spot(e), false]; });
    canvas.addEventListener("pointerup", (e) => { const moved = drag && drag[2]; drag = null; if (!moved) { const i = nearest(...spot(e), 14); if (i >= 0) { select(i); visit(); } } });
    canvas.addEventListener("pointerleave", () => { drag = null; });
    canvas.addEventListener("keydown", (e) => {
      const way = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[e.key];
      if (way) step(...way); else if (e.key === "Enter") visit(); else if (e.key === "+" || e.key === "=") zoomed(1.6); else if (e.key === "-") zoomed(1 / 1.6);
      else if (e.key === "Escape") { select(-1); } else return;
      e.preventDefault();
    });
    $("map-in").addEventListener("click", () => zoomed(1.6));
    $("map-out").addEventListener("click", () => zoomed(1 / 1.6));
    $("map-all").addEventListener("click", () => zoomed(0));
    input.addEventListener("input", () => {
      const words = input.value.toLowerCase().split(/\s+/).filter(Boolean), texts = lower();
      hits = new Set(words.length ? [...Array(n).keys()].filter((i) => words.every((w) => texts[i].includes(w))) : []);
      says.textContent = words.length ? `${plural(hits.size, "item")} ringed` : "";
      later();
    });
    input.addEventListener("keydown", (e) => {
      if (e.key === "Enter" && hits.size) { e.preventDefault(); select([...hits][0], true); seen(now); canvas.focus(); }
      if (e.key === "Escape") { input.value = ""; input.dispatchEvent(new Event("input")); }
    });
    function drawLegend() {
      const colour = colours();
      legend.replaceChildren(...map.names.map((name, g) => {
        const c = make("canvas", { width: "28", height: "28", "aria-hidden": "true" }), p = c.getContext("2d");
        p.scale(2, 2); point(p, g, 7, 7, 4, colour);
        return make("li", null, c, make("bdi", null, name));
      }));
    }
    const whole = () => { drawLegend(); draw(); };
    addEventListener("resize", later);
    addEventListener("beforeprint", whole);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", whole);
    whole();
  }
  if (api) $("held").textContent = "Every one of the run can be looked up.";
  document.documentElement.classList.add("scripted");
  follow();
  addEventListener("DOMContentLoaded", showTarget);  // sections after this script
})();
