"""The line as a server of OPC UA (asyncua), with the names of OPC 40100-1, Machine Vision; needs the extra opcua."""
