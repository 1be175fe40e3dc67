// Tables that sort by a column, and charts of which the reader chooses one.
'use strict';

// ---- tables ------------------------------------------------------------------

function cellValue(row, column) {
  const text = row.cells[column].textContent.trim();
  if (['', '-', 'not measured'].includes(text)) return null;
  // The tables have 1,234 for 1234.
  const number = text.replace(/(\d),(?=\d{3}\b)/g, '$1');
  return /^[+-]?\d+(\.\d+)?(\s|$)/.test(number) ? parseFloat(number) : text;
}

function compareValues(a, b, sign) {
  if (a === null || b === null) return (a === null) - (b === null); // unknown values last
  if (typeof a === 'number' && typeof b === 'number') return sign * (a - b);
  return sign * String(a).localeCompare(String(b), undefined, { numeric: true });
}

function sortBy(table, column) {
  const heads = [...table.tHead.rows[0].cells];
  const rows = [...table.tBodies[0].rows];
  const numbers = rows.some((row) => typeof cellValue(row, column) === 'number');
  // Numbers start with the highest, names in alphabetical order.
  const first = numbers ? 'descending' : 'ascending';
  const other = numbers ? 'ascending' : 'descending';
  const order = heads[column].getAttribute('aria-sort') === first ? other : first;
  heads.forEach((head, i) => head.setAttribute('aria-sort', i === column ? order : 'none'));
  const sign = order === 'ascending' ? 1 : -1;
  rows.sort((a, b) => compareValues(cellValue(a, column), cellValue(b, column), sign));
  table.tBodies[0].append(...rows);
}

for (const table of document.querySelectorAll('table.sortable')) {
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    head.firstElementChild.addEventListener('click', () => sortBy(table, column));
  });
}

// ---- choice of a chart -------------------------------------------------------

for (const chooser of document.querySelectorAll('.chooser')) {
  const select = chooser.querySelector('select');
  select.addEventListener('change', () => {
    const chosen = select.selectedOptions[0];
    const image = chooser.querySelector('img');
    image.src = chosen.value;
    image.alt = chosen.dataset.alt;
    chooser.querySelector('figcaption').textContent = chosen.textContent;
  });
}
