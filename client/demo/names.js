// The people of the demo.

/** Who is always watched: the group in the stack of avatars. The page offers the first of them to sign in as. */
export const TEAM = 'alice bob carol dave erin frank grace heidi ivan judy kim leo'.split(' ');

/** How many of them are offered. */
export const OFFERED = 5;

/** Who is watched only while they are on screen. With the team they are a hundred. */
export const CONTACTS = `
  ada aisha akira amara amelie anders anika anton aurora bashir beatriz björn bruno cam carlos chen chiara chloe dana
  daniel devi diego elena elif emeka emil esra farah felix fiona gabriel greta hana hassan hugo ida imani ines isak ivy
  jamal jana jin jonas jun kai karim kofi lars laura lena lin luca maja malik marta mateo mei mina mira nadia naoki nia
  nils nour olga omar oskar paula pavel pia priya quinn rafael rana remy rosa ruth sami sana sofia sven tara theo uma
  vera wanda yusuf`
  .trim()
  .split(/\s+/);
