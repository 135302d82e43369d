// The tree of branches: every run that shares a beginning with the open one. A click opens a run; the arrow
// keys walk the tree, Enter opens, F2 renames, Delete puts into the trash, C compares with the open run.

import { el, icon, say } from './dom.js';
import { ask } from './explore-tree-ask.js';

const RENAME = 'M4 20h4L19 9l-4-4L4 16z M13 7l4 4';
const TRASH = 'M4 7h16 M9 7V4h6v3 M6 7l1 13h10l1-13';
const COMPARE = 'M12 4v16 M4 6h5v12H4z M15 6h5v12h-5z';
const RESTORE = 'M4 12a8 8 0 1 0 3-6 M4 4v5h5';
const KEYS = 'Arrows walk the tree, Enter opens, F2 renames, Delete puts into the trash, C compares.';

export function mount(host, explore) {
  return new Tree(host, explore);
}

class Tree {
  constructor(host, explore) {
    Object.assign(this, { host, explore });
    this.nodes = [];
    this.trashed = [];
    this.at = null; // the id under the focus
    this.build();
    // Before the page: there Escape stops a run.
    addEventListener('keydown', (event) => {
      if (event.key !== 'Escape' || !event.target.matches?.('.tree-name')) return;
      event.preventDefault();
      event.stopImmediatePropagation();
      this.naming(false);
    }, true);
    explore.on('run', () => this.load());
    explore.on('runs', () => this.load());
    this.load();
  }

  build() {
    this.list = el('ul.tree', { role: 'tree', 'aria-label': 'Branches of this run', 'aria-describedby': 'tree-keys' });
    this.list.addEventListener('keydown', (event) => this.key(event));
    this.none = el('p.tree-none', {}, 'Open a run: what branches off it grows here.');
    this.bin = el('ul.tree-bin');
    this.binHead = el('summary', {}, 'Trash');
    this.emptied = el('button.branch-word', { type: 'button', onclick: () => this.empty() }, 'Empty the trash …');
    this.trash = el('details.branch-fold.tree-trash', { hidden: true }, this.binHead, el('div.branch-inner', {}, this.bin, this.emptied));
    this.host.append(el('h3', {}, 'Branches'), this.none, this.list, el('p.tree-keys.unseen', { id: 'tree-keys' }, KEYS), this.trash);
    this.host.setAttribute('aria-label', 'Branches');
  }

  async load() {
    const { run } = this.explore;
    const turn = (this.turn = (this.turn ?? 0) + 1);
    const answer = await this.explore.ask('tree', { run: run?.id ?? '' });
    if (turn !== this.turn || answer.problem) return;
    this.nodes = answer.nodes;
    this.trashed = answer.trash;
    if (!this.nodes.some((node) => node.id === this.at)) this.at = run?.id ?? this.nodes[0]?.id ?? null;
    this.draw();
  }

  // Drawing

  draw() {
    const focused = this.list.contains(document.activeElement);
    this.none.hidden = this.nodes.length > 0;
    this.list.replaceChildren(...this.nodes.map((node, at) => this.item(node, at)));
    if (focused) this.focus(this.at);
    this.trash.hidden = !this.trashed.length;
    say(this.binHead, `Trash (${this.trashed.length})`);
    this.bin.replaceChildren(...this.trashed.map((node) => this.lying(node)));
  }

  item(node, at) {
    const open = node.id === this.explore.run?.id;
    const rows = this.nodes.slice(at + 1);
    const end = rows.findIndex((one) => one.level <= node.level);
    const below = end < 0 ? rows.length : end;
    const [title, told] = [`tree-${node.id}`, `tree-told-${node.id}`];
    const text = el('span.tree-text', {}, el('span.tree-title', { id: title, title: node.title }, node.title), ' ', el('span.tree-told', { id: told }, node.told));
    const face = el('span.tree-face', {}, thumbnail(node), text);
    const item = el('li.tree-item', { role: 'treeitem', tabIndex: node.id === this.at ? 0 : -1, 'aria-level': node.level, 'aria-labelledby': `${title} ${told}` }, face);
    item.dataset.run = node.id;
    item.setAttribute('aria-selected', String(open));
    if (below) item.setAttribute('aria-expanded', 'true');
    const parent = this.nodes.slice(0, at).findLastIndex((one) => one.level < node.level);
    item.style.setProperty('--level', Math.min(node.level, 7) - 1);
    item.style.setProperty('--rows', at - parent); // from its parent down to it
    item.classList.toggle('open', open);
    item.classList.toggle('gone', Boolean(node.gone || node.trashed));
    item.addEventListener('focus', () => this.focus(node.id, false));
    if (node.gone) return item;
    face.addEventListener('click', () => this.open(node));
    item.append(node.trashed ? this.deeds([['Restore', RESTORE, () => this.restore(node)]]) : this.deeds([
      ...(open ? [] : [['Compare with the open run', COMPARE, () => this.compare(node)]]),
      ['Rename', RENAME, () => this.rename(node)],
      ['Put into the trash', TRASH, () => this.remove(node)],
    ]));
    return item;
  }

  /** Buttons for a mouse; the tree's keys do the same, so they are no stops of their own. */
  deeds(list) {
    const button = ([title, path, onclick]) => el('button.tree-deed', { type: 'button', tabIndex: -1, title, 'aria-label': title, onclick }, icon(path));
    return el('span.tree-deeds', {}, ...list.map(button));
  }

  lying(node) {
    const restore = el('button.branch-word', { type: 'button', 'aria-label': `Restore ${node.title}`, onclick: () => this.restore(node) }, 'Restore');
    return el('li.tree-lying', {}, thumbnail(node), el('span.tree-title', { title: node.title }, node.title), restore);
  }

  focus(id, move = true) {
    this.at = id;
    for (const item of this.list.children) {
      item.tabIndex = item.dataset.run === id ? 0 : -1;
      if (move && item.dataset.run === id) item.focus();
    }
  }

  key(event) {
    if (event.target.matches('input')) return;
    const at = this.nodes.findIndex((node) => node.id === this.at);
    const node = this.nodes[at];
    if (!node || event.ctrlKey || event.metaKey || event.altKey) return;
    const parent = () => this.nodes.slice(0, at).findLast((one) => one.level < node.level);
    const child = () => (this.nodes[at + 1]?.level > node.level ? this.nodes[at + 1] : null);
    const to = {
      ArrowUp: () => this.nodes[at - 1],
      ArrowDown: () => this.nodes[at + 1],
      ArrowLeft: parent,
      ArrowRight: child,
      Home: () => this.nodes[0],
      End: () => this.nodes.at(-1),
    }[event.key];
    const deed = {
      Enter: () => this.open(node), ' ': () => this.open(node), F2: () => this.rename(node), Delete: () => this.remove(node),
      c: () => this.compare(node),
    }[event.key];
    if (!to && !deed) return;
    event.preventDefault();
    event.stopPropagation();
    if (to) this.focus((to() ?? node).id);
    else if (!node.gone) deed();
  }

  // What a hand asks for

  open(node) {
    if (node.trashed) return this.explore.say('This run lies in the trash: restore it to open it.', true);
    this.at = node.id;
    return this.explore.select(node.id, this.explore.step);
  }

  compare(node) {
    const { run } = this.explore;
    if (!run || node.id === run.id || node.trashed) return;
    this.explore.emit('compare', { first: run.id, second: node.id });
  }

  rename(node) {
    if (node.trashed) return;
    const title = this.list.querySelector(`[data-run="${node.id}"] .tree-title`);
    const input = el('input.tree-name', { type: 'text', maxLength: 200, value: node.name || node.title, 'aria-label': 'Name of this run' });
    let ended = false;
    const end = async (keep) => {
      if (ended) return;
      ended = true;
      const name = input.value.trim();
      if (keep && name !== (node.name || node.title)) await this.change('rename', { run: node.id, name });
      else this.draw();
      this.focus(node.id);
    };
    this.naming = end;
    input.addEventListener('keydown', (event) => event.key === 'Enter' && end(true));
    input.addEventListener('blur', () => end(true));
    input.addEventListener('click', (event) => event.stopPropagation());
    title.replaceWith(input);
    input.focus();
    input.select();
  }

  async remove(node) {
    if (node.trashed) return;
    const at = this.nodes.findIndex((one) => one.id === node.id);
    const next = this.nodes[at + 1] ?? this.nodes[at - 1];
    if (await this.change('trash', { run: node.id })) this.explore.say(`“${node.title}” lies in the trash now. It can be restored below the tree.`);
    if (next) this.focus(next.id, this.list.contains(document.activeElement) || document.activeElement === document.body);
  }

  async restore(node) {
    if (await this.change('restore', { run: node.id })) this.explore.say(`“${node.title}” is back.`);
  }

  async empty() {
    const count = this.trashed.length;
    const runs = count === 1 ? 'this run' : `these ${count} runs`;
    if (await ask(this.host, `Delete ${runs} for good? Finished pictures stay where they are.`, 'Delete')) await this.change('empty_trash', {});
  }

  async change(verb, asked) {
    const answer = await this.explore.ask(verb, asked);
    if (answer.problem) this.explore.say(answer.problem, true);
    await this.load();
    this.explore.emit('runs');
    return !answer.problem;
  }
}

function thumbnail({ thumb, state }) {
  return thumb ? el('img.tree-thumb', { src: new URL(thumb, document.baseURI).href, alt: '', loading: 'lazy' }) : el('span.tree-thumb', { title: state ?? 'no picture' });
}
