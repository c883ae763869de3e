'use strict';
(() => {
  const interval = 2000;
  const byId = (id) => document.getElementById(id);
  let armed = '';

  const element = (name, attributes = {}, ...children) => {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
      if (key === 'onclick') made.addEventListener('click', value);
      else if (value !== '') made.setAttribute(key, value);
    }
    made.append(...children);
    return made;
  };
  const drawn = (name, attributes, text = '') => {
    const made = document.createElementNS('http://www.w3.org/2000/svg', name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text) made.textContent = text;
    return made;
  };

  const span = (ms) => {
    const seconds = Math.max(0, Math.round(ms / 1000));
    if (seconds < 60) return `${seconds}s`;
    if (seconds < 3600) return `${Math.floor(seconds / 60)}m ${seconds % 60}s`;
    if (seconds < 86400) return `${Math.floor(seconds / 3600)}h ${Math.floor(seconds % 3600 / 60)}m`;
    return `${Math.floor(seconds / 86400)}d ${Math.floor(seconds % 86400 / 3600)}h`;
  };
  const since = (now, time) => span(now - Date.parse(time));
  const limited = (n) => n === 0 ? '∞' : String(n);

  // A row is a list of cells: text, or {text, kind, node}.
  const cell = (content) => {
    const c = typeof content === 'object' ? content : {text: content};
    return element('td', {class: c.kind || ''}, c.node || String(c.text));
  };
  const row = (cells, id = '') => element('tr', {'data-id': id}, ...cells.map(cell));
  const number = (text) => ({text, kind: 'number'});
  const fill = (body, rows, columns, none) => {
    body.replaceChildren(...(rows.length ? rows : [element('tr', {}, element('td', {class: 'none', colspan: columns}, none))]));
  };
  const table = (heads, rows, none, kind = '') => {
    const body = element('tbody');
    fill(body, rows, heads.length, none);
    const titles = heads.map((h) => typeof h === 'string' ? element('th', {scope: 'col'}, h) : element('th', {scope: 'col', class: 'number'}, h.text));
    return element('div', {class: `scroll ${kind}`}, element('table', {}, element('thead', {}, element('tr', {}, ...titles)), body));
  };

  const act = async (action, body, done) => {
    try {
      const answer = await fetch(`/status/${action}`, {
        method: 'POST', headers: {'Content-Type': 'application/json', 'X-Gitlab-Runner-Action': 'page'}, body: JSON.stringify(body),
      });
      const said = await answer.json();
      byId('notice').textContent = said.error || done;
    } catch (error) {
      byId('notice').textContent = `The manager does not answer: ${error.message}`;
    }
    armed = '';
    await refresh();
  };
  // What changes something is asked twice: the first click arms the button.
  const button = (label, key, action, body, done) => element('button', {
    type: 'button', 'data-key': key,
    onclick: () => {
      if (armed === key) { act(action, body, done); return; }
      armed = key;
      refresh();
      setTimeout(() => { if (armed === key) { armed = ''; refresh(); } }, 5000);
    },
  }, armed === key ? `Really ${label.toLowerCase()}?` : label);

  const runnerState = (r) => {
    if (r.paused) return {text: 'paused', kind: 'warn'};
    if (r.unhealthy) return {text: 'unhealthy', kind: 'bad'};
    return {text: 'active', kind: 'good'};
  };
  const conditionKinds = {
    idle: 'good', busy: 'good', lost: 'bad', unhealthy: 'bad', draining: 'warn', deleting: 'warn',
  };
  const eventNames = {
    create: 'created', held: 'held back', ready: 'ready', unfit: 'not usable', mark: 'marked for removal',
    delete: 'deleted', lost: 'lost', suspend: 'suspended',
  };
  const eventKinds = {held: 'warn', unfit: 'bad', lost: 'bad'};

  // plot draws what is there against what is wanted, as steps over the last hour, or since the start.
  const plot = (fleet, now) => {
    const width = 800, height = 200, left = 32, right = 8, top = 26, bottom = 22;
    const samples = fleet.samples.map((s) => ({...s, t: Date.parse(s.at)}));
    const most = Math.max(1, ...samples.map((s) => Math.max(s.slots, s.demand)));
    const minutes = [2, 4, 8, 20, 40].find((m) => samples.length && samples[0].t >= now - m * 60e3) || 60;
    const begin = now - minutes * 60e3;
    const x = (t) => left + (Math.max(t, begin) - begin) / (now - begin) * (width - left - right);
    const y = (v) => height - bottom - v / most * (height - top - bottom);
    const last = samples[samples.length - 1] || {slots: 0, busy: 0, demand: 0};
    const svg = drawn('svg', {
      viewBox: `0 0 ${width} ${height}`, role: 'img',
      'aria-label': `Capacity against demand in the last ${minutes} minutes. Now ${last.slots} slots, ${last.busy} of them busy, demand ${last.demand}; at most ${most}.`,
    });
    const step = Math.max(1, Math.ceil(most / 4));
    for (let v = 0; v <= most; v += step) {
      svg.append(drawn('line', {class: 'grid', x1: left, x2: width - right, y1: y(v), y2: y(v)}));
      svg.append(drawn('text', {x: left - 6, y: y(v) + 4, 'text-anchor': 'end'}, String(v)));
    }
    for (let m = minutes; m >= 0; m -= minutes / 4) {
      svg.append(drawn('text', {x: x(now - m * 60e3), y: height - 6, 'text-anchor': m === 0 ? 'end' : m === minutes ? 'start' : 'middle'}, m === 0 ? 'now' : `${m} min ago`));
    }
    [['slots', 'slots'], ['demand', 'demand (running, waiting, announced jobs)'], ['busy', 'busy slots']].forEach(([name, label], i) => {
      let path = '';
      samples.forEach((s, n) => {
        path += n === 0 ? `M${x(s.t)} ${y(s[name])}` : `H${x(s.t)}V${y(s[name])}`;
      });
      if (path) svg.append(drawn('path', {class: name, d: `${path}H${x(now)}`}));
      const at = left + [0, 80, 360][i];
      svg.append(drawn('line', {class: `key ${name}`, x1: at, x2: at + 22, y1: 12, y2: 12, 'stroke-width': 2}));
      svg.append(drawn('text', {x: at + 28, y: 16}, label));
    });
    return svg;
  };

  const fleetSection = (fleet, jobs, now) => {
    const id = `fleet-${fleet.runner}`;
    const onInstance = (in_) => jobs.filter((j) => j.instance === in_.id && j.runner === fleet.runner);
    const instances = fleet.instances.map((in_) => row([
      in_.id,
      {text: in_.condition, kind: conditionKinds[in_.condition] || ''},
      number(`${in_.tasks.length}/${fleet.capacity_per_instance}`),
      number(since(now, in_.found)),
      number(`${in_.used}/${limited(fleet.max_use_count)}`),
      onInstance(in_).map((j) => `#${j.id}`).join(', ') || '–',
      in_.removal || '–',
      ['draining', 'deleting', 'lost'].includes(in_.condition) ? '' : {
        node: button('Drain', `drain ${fleet.runner} ${in_.id}`, 'drain', {runner: fleet.runner, instance: in_.id}, `Instance ${in_.id} takes no more jobs.`),
      },
    ], in_.id));
    const events = fleet.events.slice().reverse().map((e) => row([
      number(new Date(e.at).toLocaleTimeString()),
      {text: `${eventNames[e.kind] || e.kind}${e.count > 1 ? ` (${e.count})` : ''}`, kind: eventKinds[e.kind] || ''},
      e.instance || '–', e.reason || '–',
    ]));
    const facts = [
      `plugin ${fleet.plugin}`, `at most ${limited(fleet.max_instances)} instances`, `${fleet.capacity_per_instance} slots each`,
      `${fleet.idle_count} slots idle by policy`, `${fleet.pending} jobs waiting`, `${fleet.reserved} announced`,
    ];
    if (fleet.held) facts.push(`creation held back: ${fleet.held}`);
    if (fleet.leaving) facts.push('gone from the configuration: waits for its last jobs');
    return element('section', {'aria-labelledby': id},
      element('h2', {id}, `Instances of ${fleet.runner_name || fleet.runner}`),
      element('p', {class: 'facts'}, facts.join(' · ')),
      plot(fleet, now),
      element('h3', {}, 'Instances'),
      table(['Instance', 'State', {text: 'Slots'}, {text: 'Age'}, {text: 'Uses'}, 'Jobs', 'Removal', 'Action'], instances, 'There is no instance.'),
      element('h3', {}, 'Decisions of the last hour'),
      table([{text: 'Time'}, 'Decision', 'Instance', 'Reason'], events, 'Nothing was decided.', 'timeline'));
  };

  const render = (s) => {
    const now = Date.parse(s.at);
    byId('summary').textContent = `Version ${s.version} · ${s.state} · ${s.jobs.length} of ${s.concurrent} jobs · ${s.system_id} · ${new Date(now).toLocaleString()}`;
    fill(byId('runners'), s.runners.map((r) => row([
      r.runner_name || '–', r.runner, r.executor, r.url, number(r.jobs), number(limited(r.limit)), runnerState(r), {
        node: r.paused
          ? button('Resume', `resume ${r.runner}`, 'resume', {runner: r.runner}, `Runner ${r.runner_name} takes jobs.`)
          : button('Pause', `pause ${r.runner}`, 'pause', {runner: r.runner}, `Runner ${r.runner_name} takes no new jobs.`),
      },
    ], r.runner)), 8, 'There is no runner in the configuration.');
    const link = (j) => /^https?:/.test(j.url) ? element('a', {href: j.url, rel: 'noreferrer'}, `#${j.id}`) : document.createTextNode(`#${j.id}`);
    fill(byId('jobs'), s.jobs.map((j) => row([
      {node: link(j)}, j.runner_name, j.stage || j.state, j.executor_stage, number(since(now, j.started)), j.instance || '–',
    ], String(j.id))), 6, 'No job is running.');

    // The timelines stay where they were scrolled to.
    const scrolled = [...document.querySelectorAll('.timeline')].map((t) => t.scrollTop);
    byId('fleets').replaceChildren(...s.fleets.map((f) => fleetSection(f, s.jobs, now)));
    document.querySelectorAll('.timeline').forEach((t, i) => { t.scrollTop = scrolled[i] || 0; });
  };

  const refresh = async () => {
    const focused = document.activeElement && document.activeElement.getAttribute('data-key');
    try {
      const answer = await fetch('/status.json', {cache: 'no-store'});
      if (!answer.ok) throw new Error((await answer.json()).error);
      render(await answer.json());
      document.body.setAttribute('data-ready', 'yes');
      if (byId('notice').dataset.lost) { byId('notice').textContent = ''; delete byId('notice').dataset.lost; }
    } catch (error) {
      byId('notice').textContent = `The manager does not answer: ${error.message}`;
      byId('notice').dataset.lost = 'yes';
    }
    if (focused) {
      const again = [...document.querySelectorAll('button')].find((b) => b.getAttribute('data-key') === focused);
      if (again) again.focus({preventScroll: true});
    }
  };

  const loop = async () => {
    if (!document.hidden) await refresh();
    setTimeout(loop, interval);
  };
  loop();
})();
