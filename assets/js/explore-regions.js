// The regions of the Explore tab as a table, in the order in which they stand. A region is a row here and a
// module with `mount(host, explore)`; what has no row is not shown.
//
// side: the small tab of the right column in which it stands (regions with the same one share it, in this order);
// without one it stands in the main column.

export const REGIONS = [
  { name: 'lessons', load: () => import('./explore-lessons.js') },
  { name: 'empty', load: () => import('./explore-empty.js') },
  { name: 'picker', load: () => import('./explore-picker.js') },
  { name: 'lanes', load: () => import('./explore-lanes.js') },
  { name: 'strip', load: () => import('./explore-strip.js') },
  { name: 'curves', load: () => import('./explore-curves.js') },
  { name: 'branch', side: 'Branch', load: () => import('./explore-branch.js') },
  { name: 'tree', side: 'Branch', load: () => import('./explore-tree.js') },
  { name: 'words', side: 'Words', load: () => import('./explore-words.js') },
  { name: 'compare', side: 'Compare', load: () => import('./explore-compare.js') },
  { name: 'lab', side: 'Lab', load: () => import('./explore-lab.js') },
  { name: 'forward', side: 'Lab', load: () => import('./explore-forward.js') },
];
