const fs = require('node:fs');
const path = require('node:path');

// Beside the code, as many programs keep their data.
const folder = path.join(__dirname, '..', 'var');
const file = path.join(folder, 'guests.txt');

exports.sign = (name) => {
  fs.mkdirSync(folder, { recursive: true });
  fs.appendFileSync(file, `${name}\n`);
};

exports.guests = () => (fs.existsSync(file) ? fs.readFileSync(file, 'utf8').trim().split('\n') : []);
