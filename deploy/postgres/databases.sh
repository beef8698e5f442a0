#!/bin/sh
# Creates a database for the service and one for MLflow. The owner of each cannot connect to the other. Runs once, on an empty volume.
set -eu
for name in gradfleet mlflow; do
  case $name in
    gradfleet) password=$GRADFLEET_DATABASE_PASSWORD ;;
    mlflow) password=$MLFLOW_DATABASE_PASSWORD ;;
  esac
  psql --set ON_ERROR_STOP=1 --set name="$name" --set password="$password" --username postgres --dbname postgres <<'SQL'
CREATE ROLE :"name" LOGIN PASSWORD :'password';
CREATE DATABASE :"name" OWNER :"name" TEMPLATE template0 ENCODING 'UTF8';
REVOKE CONNECT ON DATABASE :"name" FROM PUBLIC;
SQL
done
