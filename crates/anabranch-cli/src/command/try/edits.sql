-- What two people do to the same list of airports while neither sees the other.
-- A line "-- Name: why" begins a change: its statements are one transaction of that person.

-- Ada: Names that changed since the list was made
UPDATE airport SET name = 'Harry Reid International' WHERE iata = 'LAS';
UPDATE airport SET name = 'Daniel K Inouye International' WHERE iata = 'HNL';
UPDATE airport SET name = 'Bill and Hillary Clinton National' WHERE iata = 'LIT';
UPDATE airport SET name = 'Norman Y Mineta San Jose International' WHERE iata = 'SJC';
UPDATE airport SET name = 'Newark Liberty International' WHERE iata = 'EWR';
UPDATE airport SET name = 'Hartsfield-Jackson Atlanta International' WHERE iata = 'ATL';
UPDATE airport SET name = 'Oakland San Francisco Bay' WHERE iata = 'OAK';

-- Ada: Cty is County
UPDATE airport SET name = replace(name, ' Cty', ' County') WHERE name LIKE '% Cty%';

-- Ada: Cities and states that were missing
UPDATE airport SET city = 'Carlsbad', state = 'CA' WHERE iata = 'CLD';
UPDATE airport SET city = 'Hilton Head Island', state = 'SC' WHERE iata = 'HHH';
UPDATE airport SET city = 'Minot', state = 'ND' WHERE iata = 'MIB';
UPDATE airport SET city = 'Rapid City', state = 'SD' WHERE iata = 'RCA';
UPDATE airport SET city = 'State College', state = 'PA' WHERE iata = 'SCE';
UPDATE airport SET city = 'Spokane', state = 'WA' WHERE iata = 'SKA';

-- Ada: Rota is not in Thailand
UPDATE airport SET name = 'Rota International', city = 'Rota', country = 'N Mariana Islands'
  WHERE iata = 'ROP';

-- Ada: Reading, first try
UPDATE airport SET name = 'Reading Regional' WHERE iata = 'RDG';

-- Ada: Reading, in full
UPDATE airport SET name = 'Reading Regional/Carl A Spaatz Field' WHERE iata = 'RDG';

-- Ada: Williston has a new airport; the old one is closed
UPDATE airport SET name = 'Sloulin Field (closed 2019)' WHERE iata = 'ISN';
INSERT INTO airport VALUES
  ('XWA', 'Williston Basin International', 'Williston', 'ND', 'USA', 48.2608, -103.7512);

-- Ben: Barrow is called Utqiaġvik again
UPDATE airport SET city = 'Utqiaġvik' WHERE city = 'Barrow';

-- Ben: Closed, or not an American airport
DELETE FROM airport WHERE iata IN ('CGX', 'ISN', 'PFN');
DELETE FROM airport WHERE country = 'Thailand';

-- Ben: Intl is International
UPDATE airport SET name = replace(name, ' Intl', ' International') WHERE name LIKE '% Intl%';

-- Ben: New airports
INSERT INTO airport VALUES
  ('ECP', 'Northwest Florida Beaches International', 'Panama City', 'FL', 'USA', 30.3583, -85.7956),
  ('XWA', 'Williston Basin Intl', 'Williston', 'ND', 'USA', 48.2581, -103.7506);

-- Ben: Names that changed
UPDATE airport SET name = 'San Francisco Bay Oakland International' WHERE iata = 'OAK';
UPDATE airport SET name = 'Reading Rgnl' WHERE iata = 'RDG';

-- Ben: Hilton Head is an island
UPDATE airport SET city = 'Hilton Head Isl.', state = 'SC' WHERE iata = 'HHH';

-- live
-- From here on both are connected to a relay, and each statement is a change of its own.

-- Ada: A memorial is an airport
UPDATE airport SET name = name || ' Airport' WHERE state = 'LA' AND name LIKE '% Memorial';
UPDATE airport SET name = name || ' Airport' WHERE state = 'MI' AND name LIKE '% Memorial';
UPDATE airport SET name = name || ' Airport' WHERE state = 'AK' AND name LIKE '% Memorial';
UPDATE airport SET name = name || ' Airport' WHERE state = 'MS' AND name LIKE '% Memorial';
UPDATE airport SET name = name || ' Airport' WHERE state = 'GA' AND name LIKE '% Memorial';
UPDATE airport SET name = name || ' Airport' WHERE state = 'WA' AND name LIKE '% Memorial';

-- Ben: Five digits are a metre
UPDATE airport SET latitude = round(latitude, 5), longitude = round(longitude, 5)
  WHERE state = 'RI';
UPDATE airport SET latitude = round(latitude, 5), longitude = round(longitude, 5)
  WHERE state = 'DE';
UPDATE airport SET latitude = round(latitude, 5), longitude = round(longitude, 5)
  WHERE state = 'CT';
UPDATE airport SET latitude = round(latitude, 5), longitude = round(longitude, 5)
  WHERE state = 'VT';
UPDATE airport SET latitude = round(latitude, 5), longitude = round(longitude, 5)
  WHERE state = 'NH';
UPDATE airport SET latitude = round(latitude, 5), longitude = round(longitude, 5)
  WHERE state = 'HI';

-- Ada: A memorial is an airport
UPDATE airport SET name = name || ' Airport' WHERE state = 'AR' AND name LIKE '% Memorial';
UPDATE airport SET name = name || ' Airport' WHERE state = 'IL' AND name LIKE '% Memorial';
UPDATE airport SET name = name || ' Airport' WHERE state = 'KS' AND name LIKE '% Memorial';
UPDATE airport SET name = name || ' Airport' WHERE state = 'MA' AND name LIKE '% Memorial';

-- Ben: Five digits are a metre
UPDATE airport SET latitude = round(latitude, 5), longitude = round(longitude, 5)
  WHERE state = 'MD';
UPDATE airport SET latitude = round(latitude, 5), longitude = round(longitude, 5)
  WHERE state = 'NJ';
UPDATE airport SET latitude = round(latitude, 5), longitude = round(longitude, 5)
  WHERE state = 'MA';
UPDATE airport SET latitude = round(latitude, 5), longitude = round(longitude, 5)
  WHERE state = 'NV';

-- Ada: A memorial is an airport, also in Missouri
UPDATE airport SET name = name || ' Airport' WHERE state = 'MO' AND name LIKE '% Memorial';

-- Ben is killed

-- Ada: Oakland, and where it is
UPDATE airport SET city = 'Oakland (CA)' WHERE iata = 'OAK';
UPDATE airport SET city = 'Oakland, CA' WHERE iata = 'OAK';

-- Ben: Saint, not St
UPDATE airport SET city = 'Saint Louis' WHERE city = 'St Louis';
UPDATE airport SET city = 'Bay Saint Louis' WHERE city = 'Bay St Louis';
UPDATE airport SET city = 'Saint Paul' WHERE city = 'St Paul';

-- Ben is back

-- Ada: Oakland, and everybody knows where it is
UPDATE airport SET city = 'Oakland' WHERE iata = 'OAK';

-- Ben: Saint, not St
UPDATE airport SET name = 'Saint Louis-Metro East' WHERE iata = '3K6';
